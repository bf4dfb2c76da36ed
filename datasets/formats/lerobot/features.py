"""Which features of a LeRobot dataset become cameras, state and action, and what is left out."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import DatasetError
from vla.core.media.video import decode_mp4, turned
from vla.datasets.formats.dimensions import Extent, dimension_around
from vla.datasets.formats.lerobot.meta import Feature, Meta
from vla.datasets.formats.lerobot.rows import first_picture, measure
from vla.datasets.formats.lerobot.tables import INFO
from vla.datasets.formats.pictures import PictureError, picture_notes, picture_shape
from vla.datasets.formats.source import Hints

STATE = ("observation.state", "state")
ACTION = ("action", "actions")
_COUNTERS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
_OUTCOME = ("next.reward", "next.done", "next.success")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How features are read."""

    contract: Contract
    cameras: Mapping[str, str]
    """The feature of each camera."""
    state: tuple[Feature, ...]
    """Side by side, in order."""
    action: tuple[Feature, ...]
    notes: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read of the parquet files, as far as they have it."""
        pictures = tuple(self.cameras.values())
        return (*(f.key for f in (*self.state, *self.action)), *_COUNTERS, *_OUTCOME, *pictures)


def plan_layout(root: Path, meta: Meta, hints: Hints) -> Layout:
    """Choose; a dataset without actions is a `DatasetError`."""
    notes: list[str] = []
    cameras = _cameras(root, meta, notes)
    state, action = _state(meta, notes), tuple(_find(meta, ACTION))
    if not action:
        raise DatasetError(
            f"{root / INFO}: expected a feature {ACTION[0]!r}, got {list(meta.features)}; "
            "rename the feature that holds the commands"
        )
    _note_left_out(meta, (*state, *action), notes)
    robot = hints.robot or meta.robot
    if robot is None:
        notes.append("The dataset does not name its robot: it is called unknown; name it with the import.")
    extents = measure(root, meta, (*state, *action))
    dimensions = [d for feature in (*state, *action) for d in _dimensions(feature, extents[feature.key], meta, notes)]
    split = sum(feature.width for feature in state)
    if any(dimension.unit == "1" for dimension in dimensions):
        notes.append("Units are not written in the dataset and are given as 1; limits are those of its data, widened.")
    if any(feature.dtype == "float64" for feature in (*state, *action)):
        notes.append("Numbers of 64 bits are rounded to 32 bits; where that would show, the episode is refused.")
    if "next.done" not in meta.features:
        notes.append("The dataset has no next.done: each episode is done at its last step.")
    contract = Contract(
        robot=robot or "unknown",
        cameras=tuple(camera for camera, _ in cameras),
        state=_unique(dimensions[:split], "state"),
        action=_unique(dimensions[split:], "action"),
        gripper=_gripper(action),
        control_hz=float(meta.fps),
    )
    return Layout(
        contract=contract,
        cameras={camera.name: key for camera, key in cameras},
        state=state,
        action=action,
        notes=tuple(notes),
    )


def _find(meta: Meta, keys: Sequence[str]) -> list[Feature]:
    """The first of these features that is there, as a list of one or none."""
    return [meta.features[key] for key in keys if key in meta.features and meta.features[key].is_vector][:1]


def _state(meta: Meta, notes: list[str]) -> tuple[Feature, ...]:
    """The state, or else every other vector that was observed."""
    state = tuple(_find(meta, STATE))
    if not state:
        state = tuple(f for key, f in meta.features.items() if key.startswith("observation.") and f.is_vector)
        notes.append(
            f"The dataset has no {STATE[0]}: the state is {', '.join(f.key for f in state)}, side by side."
            if state
            else f"The dataset has no {STATE[0]} and no other observed numbers: the state is empty."
        )
    return state


def _cameras(root: Path, meta: Meta, notes: list[str]) -> list[tuple[Camera, str]]:
    """Every picture that is neither packed depth nor of the next step, with its feature."""
    found: dict[str, tuple[Camera, str]] = {}
    for key, feature in meta.features.items():
        if not feature.is_picture:
            continue
        if feature.is_depth:
            notes.append(f"Depth {key} is left out: LeRobot packs distances into pixels in a lossy way of its own.")
            continue
        if key.startswith("next."):
            notes.append(f"{key} is left out: it belongs to the step after.")
            continue
        height, width, channels = _picture_shape(feature)
        shape, said = _look(root, meta, feature)
        if shape is not None and said and shape[:2] == (width, height):
            height, width = shape[:2]  # the table has the size before the turn
        depth = shape is not None and shape[2] == 1
        if channels != 3 and not depth:
            said.append(f"has {channels} channels and is read as RGB")
        notes += [f"{key} {phrase}." for phrase in said]
        name = re.sub(r"^observation\.(images?\.)?", "", key)
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip("_.-") or "camera"
        while name in found:
            name += "_2"
        found[name] = (Camera(name=name, height=height, width=width, kind="depth" if depth else "rgb"), key)
    return list(found.values())


def _look(root: Path, meta: Meta, feature: Feature) -> tuple[tuple[int, int, int] | None, list[str]]:
    """Shape and peculiarities of a camera's first picture that can be read."""
    try:
        if feature.dtype == "image":
            data = first_picture(root, meta, feature.key)
            return (None, []) if data is None else (picture_shape(data), picture_notes(data))
        paths = dict.fromkeys(root / entry.clips[feature.key].span.path for entry in meta.entries)
        path = next((path for path in paths if path.is_file()), None)
        phrase = None if path is None else turned(path)
        if path is None or phrase is None:
            return None, []
        height, width, channels = decode_mp4(path, [0]).shape[1:]
        return (height, width, channels), [phrase]
    except (DatasetError, PictureError):
        return None, []  # reading it says what is wrong


def _picture_shape(feature: Feature) -> tuple[int, int, int]:
    """Height, width and channels, whichever way they are ordered."""
    if len(feature.shape) != 3:
        raise DatasetError(f"{INFO}: {feature.key}: expected a shape of 3 numbers, got {list(feature.shape)}")
    names = [str(name) for name in feature.names] if isinstance(feature.names, list | tuple) else []
    first = bool(names and names[0].startswith("channel"))
    last = bool(names and names[-1].startswith("channel"))
    a, b, c = feature.shape
    if first or (not last and a in (1, 3, 4) and c not in (1, 3, 4)):
        return b, c, a
    return a, b, c


def _note_left_out(meta: Meta, used: Sequence[Feature], notes: list[str]) -> None:
    """Name every feature that is not read."""
    keys = {feature.key for feature in used}
    left = [
        key
        for key, feature in meta.features.items()
        if key not in keys and key not in (*_COUNTERS, *_OUTCOME) and not feature.is_picture
    ]
    if left:
        notes.append(f"These features are left out: {', '.join(left)}.")


def _dimensions(feature: Feature, extent: Extent, meta: Meta, notes: list[str]) -> list[Dimension]:
    """Names, units and limits of one vector."""
    width = feature.width
    names = _names(feature.names)
    if len(names) != width or len(set(names)) != width or not all(name.strip() for name in names):
        if names:
            notes.append(f"{feature.key} has {width} numbers and the names {names}: they are numbered instead.")
        prefix = re.sub(r"^observation\.", "", feature.key)
        names = [f"{prefix}_{place}" for place in range(width)]
    units = _written(feature, "units", width, str) or ["1"] * width
    lows, highs = (_written(feature, side, width, float) for side in ("low", "high"))
    if lows and highs:
        limits = list(zip(lows, highs, strict=True))
    else:
        limits = [_limits(low, high) for low, high in zip(extent.low.tolist(), extent.high.tolist(), strict=True)]
        _compare_statistics(feature, extent, meta, notes)
    return [
        Dimension(name=name, unit=unit, low=float(a), high=float(b))
        for name, unit, (a, b) in zip(names, units, limits, strict=True)
    ]


def _limits(low: float, high: float) -> tuple[float, float]:
    around = dimension_around("", low, high)
    return around.low, around.high


def _compare_statistics(feature: Feature, extent: Extent, meta: Meta, notes: list[str]) -> None:
    """Statistics that the frames leave were made of other frames: normalising by them would be wrong."""
    low, high = (np.asarray(side, np.float64) for side in meta.limits.get(feature.key, ([], [])))
    if low.shape != extent.low.shape:
        notes.append(f"The statistics lack {feature.key}; its limits are those of all its frames.")
        return
    room = 1e-3 * np.maximum(high - low, 1e-3) + 1e-6 * np.maximum(np.abs(low), np.abs(high))
    beyond = (extent.low < low - room) | (extent.high > high + room)
    if beyond.any():
        place = int(np.argmax(beyond))
        notes.append(
            f"The statistics say that {feature.key}[{place}] lies in [{low[place]:g}, {high[place]:g}], its frames in "
            f"[{extent.low[place]:g}, {extent.high[place]:g}]: they are of other frames, and those of the frames are "
            f"taken{f', as for {int(beyond.sum()) - 1} more numbers' if beyond.sum() > 1 else ''}."
        )


def _names(value: Any) -> list[str]:
    """Names as a flat list, from a list, lists within it, a dictionary of lists, or one of positions."""
    if isinstance(value, Mapping):
        if value and all(isinstance(place, int) for place in value.values()):
            return [str(name) for name, _ in sorted(value.items(), key=lambda item: item[1])]
        return [name for part in value.values() for name in _names(part)]
    if isinstance(value, list | tuple):
        return [name for part in value for name in (_names(part) if isinstance(part, list | tuple) else [str(part)])]
    return []


def _written(feature: Feature, key: str, width: int, kind: type) -> list[Any]:
    """What our own export writes beside a feature; nothing where another program wrote it."""
    values = feature.info.get(key)
    if not isinstance(values, list) or len(values) != width:
        return []
    accepted = (int, float) if kind is float else (kind,)
    return values if all(isinstance(value, accepted) for value in values) else []


def _gripper(action: Sequence[Feature]) -> str | None:
    """Only where our own export wrote it: elsewhere nobody says whether larger opens."""
    return next((str(f.info["gripper"]) for f in action if isinstance(f.info.get("gripper"), str)), None)


def _unique(dimensions: Sequence[Dimension], prefix: str) -> tuple[Dimension, ...]:
    """Features side by side may repeat a name."""
    names = [dimension.name for dimension in dimensions]
    if len(set(names)) == len(names):
        return tuple(dimensions)
    return tuple(dataclasses.replace(d, name=f"{prefix}_{place}.{d.name}") for place, d in enumerate(dimensions))
