"""A source of any format as a description says: renamed, in SI units, and held against its limits."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import ConfigError, DatasetError
from vla.core.types import Episode
from vla.datasets.formats.description import UNITS, DescribedCamera, DescribedDimension, Description, Gripper
from vla.datasets.formats.source import Source
from vla.datasets.store.layout import check_names

_ROUNDING = 1e-5
"""Of a limit: what float32 and the conversion of units may add to a number that lies on it."""
_TURN = 2 * math.pi

Part = Literal["state", "action"]


def describe(source: Source, description: Description, path: Path) -> "DescribedSource":
    """The source as the file ``path`` describes it; what does not fit the source is a `ConfigError`."""
    contract = source.contract
    state = _Columns.of(contract.state, description.state, "state", path)
    action = _Columns.of(contract.action, description.action, "action", path)
    cameras = dict(_cameras(contract.cameras, description.cameras, path))
    gripper = contract.gripper
    if gripper is not None:
        gripper = action.dimensions[[d.name for d in contract.action].index(gripper)].name
    if description.gripper is not None:
        gripper = description.gripper.action
        action = action.with_gripper(description.gripper, "action", path)
        if gripper in [d.name for d in state.dimensions]:
            state = state.with_gripper(description.gripper, "state", path)
    described = replace(
        contract,
        cameras=tuple(cameras.values()),
        state=state.dimensions,
        action=action.dimensions,
        gripper=gripper,
    )
    check_names(described)
    left = sorted(camera.name for camera in contract.cameras if camera.name not in cameras)
    notes = [f"Names, units, limits and cameras are those of {path.name}, where it gives them."]
    notes += [f"Cameras left out, as {path.name} says: {', '.join(left)}."] if left else []
    return DescribedSource(
        source=source,
        contract=described,
        notes=(*source.notes, *notes),
        path=path,
        state=state,
        action=action,
        cameras={was: camera.name for was, camera in cameras.items()},
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Columns:
    """The numbers of the state or the action: new = old · scale + shift."""

    dimensions: tuple[Dimension, ...]
    scale: Float64[np.ndarray, " w"]
    shift: Float64[np.ndarray, " w"]
    known: Bool[np.ndarray, " w"]
    """Whether the file gives both limits."""
    turned: Bool[np.ndarray, " w"]
    """Whether numbers were said to be radians: what a wrong number may mean."""

    @staticmethod
    def of(found: Sequence[Dimension], said: Sequence[DescribedDimension] | None, part: Part, path: Path) -> "_Columns":
        """What the file says of what was found."""
        if said is None:
            said = [DescribedDimension(was=d.name, name=d.name, unit=d.unit) for d in found]
        _check_matches([d.name for d in found], said, part, path)
        factors = np.array([UNITS[str(d.unit)][1] for d in said])
        return _Columns(
            dimensions=tuple(
                _dimension(old, new, f"{path}: {part}[{place}]")
                for place, (old, new) in enumerate(zip(found, said, strict=True))
            ),
            scale=factors,
            shift=np.zeros(len(said)),
            known=np.array([d.low is not None and d.high is not None for d in said], bool),
            turned=np.array([str(d.unit) == "rad" for d in said], bool),
        )

    def with_gripper(self, gripper: Gripper, part: Part, path: Path) -> "_Columns":
        """Mirrored between its limits where smaller numbers open it."""
        names = [d.name for d in self.dimensions]
        if gripper.action not in names:
            raise ConfigError(f"{path}: gripper.action: expected one of {names}, got {gripper.action!r}; name one")
        if gripper.opens == "larger":
            return self
        place = names.index(gripper.action)
        if not self.known[place]:
            raise ConfigError(
                f"{path}: gripper.opens: numbers are mirrored between the limits of {part} {gripper.action}, which are "
                f"null; give low and high"
            )
        scale, shift = self.scale.copy(), self.shift.copy()
        scale[place] *= -1
        shift[place] = self.dimensions[place].low + self.dimensions[place].high
        return replace(self, scale=scale, shift=shift)

    def apply(self, rows: Float32[np.ndarray, "t w"]) -> Float32[np.ndarray, "t w"]:
        """In the units of the dataset."""
        if (self.scale == 1).all() and not self.shift.any():
            return rows
        changed: Float32[np.ndarray, "t w"] = (rows * self.scale + self.shift).astype(np.float32)
        return changed

    def check(self, rows: Float32[np.ndarray, "t w"], part: str, path: Path) -> None:
        """Raise `DatasetError` where numbers lie outside the limits that the file gives, with their count."""
        for place in np.flatnonzero(self.known).tolist():
            dimension, values = self.dimensions[place], rows[:, place].astype(np.float64)
            room = _ROUNDING * max(abs(dimension.low), abs(dimension.high))
            beyond = np.maximum(dimension.low - values, values - dimension.high)
            outside = int((beyond > room).sum())
            if outside:
                worst = int(np.argmax(beyond))
                degrees = self.turned[place] and abs(values[worst]) > _TURN
                raise DatasetError(
                    f"{part} {dimension.name}: {outside} of {len(values)} steps lie outside "
                    f"[{dimension.low:g}, {dimension.high:g}] {dimension.unit} as {path} says, the farthest is "
                    f"{values[worst]:g} at step {worst}; correct low, high or unit there"
                    + (" (unit: deg, if these are degrees)" if degrees else "")
                    + ", or leave the episode out with --skip-invalid"
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class DescribedSource:
    """A source with a description; made by `describe`."""

    source: Source
    contract: Contract
    notes: tuple[str, ...]
    path: Path
    state: _Columns
    action: _Columns
    cameras: Mapping[str, str]
    """The new name of each camera that is kept."""

    def __len__(self) -> int:
        """The number of episodes."""
        return len(self.source)

    def read(self, number: int) -> Episode:
        """One episode, in the words and units of the description; one outside its limits is a `DatasetError`."""
        episode = self.source.read(number)
        state, action = self.state.apply(episode.state), self.action.apply(episode.action)
        executed = self.action.apply(episode.action_executed)
        for columns, rows, part in (
            (self.state, state, "state"),
            (self.action, action, "action"),
            (self.action, executed, "action_executed"),
        ):
            columns.check(rows[episode.valid], part, self.path)
        return replace(
            episode,
            images={new: episode.images[was] for was, new in self.cameras.items()},
            image_time_ns={
                new: episode.image_time_ns[was] for was, new in self.cameras.items() if was in episode.image_time_ns
            },
            state=state,
            action=action,
            action_executed=executed,
        )


def _dimension(old: Dimension, new: DescribedDimension, where: str) -> Dimension:
    """The limits that the file gives, and the others of the data, in the unit of the dataset."""
    unit, factor = UNITS[str(new.unit)]
    low = (old.low if new.low is None else new.low) * factor
    high = (old.high if new.high is None else new.high) * factor
    if not low < high:
        raise ConfigError(
            f"{where}: low must be below high, got [{low / factor:g}, {high / factor:g}] of {new.name}, one of them "
            "from the data; give both"
        )
    return Dimension(name=new.name, unit=unit, low=low, high=high)


def _cameras(
    found: Sequence[Camera], said: Sequence[DescribedCamera] | None, path: Path
) -> Iterator[tuple[str, Camera]]:
    """Old name and new camera."""
    if said is None:
        said = [DescribedCamera(was=camera.name, name=camera.name) for camera in found]
    _check_matches([camera.name for camera in found], said, "cameras", path)
    for place, (old, new) in enumerate(zip(found, said, strict=True)):
        for key in ("height", "width"):
            expected = getattr(new, key)
            if expected is not None and expected != getattr(old, key):
                raise ConfigError(
                    f"{path}: cameras[{place}].{key}: expected {getattr(old, key)} as in the source, got {expected}; "
                    "correct or remove it"
                )
        if new.name is not None:
            yield old.name, replace(old, name=new.name)


def _check_matches(
    found: Sequence[str], said: Sequence[DescribedDimension] | Sequence[DescribedCamera], part: str, path: Path
) -> None:
    """Every thing of the source is described, in its order."""
    names = [item.was for item in said]
    if names == list(found):
        return
    fix = "write a template of this source with --describe-template FILE"
    if len(names) != len(found):
        raise ConfigError(
            f"{path}: {part}: expected {len(found)} entries as in the source ({', '.join(found)}), got {len(names)}; "
            f"describe each one, or {fix}"
        )
    place = next(place for place, (a, b) in enumerate(zip(found, names, strict=True)) if a != b)
    raise ConfigError(
        f"{path}: {part}[{place}].was: expected {found[place]!r} as in the source, got {names[place]!r}; "
        f"keep its order, or {fix}"
    )
