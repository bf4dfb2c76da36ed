"""Which arrays of a replay buffer become cameras, state and action, and the contract that follows."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import DatasetError
from vla.datasets.formats.diffusion_policy.buffer import read_rows
from vla.datasets.formats.dimensions import dimensions_of, extremes
from vla.datasets.formats.pictures import as_pixels
from vla.datasets.formats.source import Hints

_DEFAULT_HZ = 10.0
"""Of diffusion_policy's examples."""
_ACTION = ("action", "actions")
_UMI = ("eef_pos", "eef_rot_axis_angle", "gripper_width")
"""UMI records no commands: its loader takes these of each robot, at the same step, as the action."""
_FUTURE = re.compile(r"robot\d+_demo_(start|end)_pose")
"""How the demonstration will end: nothing that a robot can know."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How arrays are read."""

    contract: Contract
    cameras: Mapping[str, str]
    """The array of each camera."""
    state: tuple[str, ...]
    """Arrays, side by side, in order."""
    action: tuple[str, ...]
    instruction: str
    notes: tuple[str, ...]


def plan_layout(arrays: Mapping[str, Any], path: Path, ends: Sequence[int], hints: Hints) -> Layout:
    """Choose among the arrays of ``data``, whose episodes end at the rows ``ends``.

    No action, and no episode that can be read, are a `DatasetError`.
    """
    notes: list[str] = []
    arrays = _of_steps(arrays, ends, notes)
    cameras = _cameras(arrays, notes)
    vectors = [key for key, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "fiub"]
    action = _action(arrays, vectors, path, notes)
    future = [key for key in vectors if _FUTURE.fullmatch(key)]
    state = tuple(sorted((k for k in vectors if k not in (*_ACTION, *future)), key=lambda key: (key != "state", key)))
    if future:
        notes.append(f"{', '.join(future)}: left out of the state, since no robot knows how its episode will end.")
    if not state:
        notes.append("There are no arrays (rows, width) besides the action: the state is empty.")
    left = [key for key in arrays if key not in (*vectors, *cameras.values())]
    if left:
        shapes = ", ".join(f"{key} {tuple(arrays[key].shape)}" for key in left)
        notes.append(f"These arrays are left out, being neither vectors nor RGB frames: {shapes}.")
    if not cameras and (path.parent / "videos").is_dir():
        notes.append(f"There are no frames; the videos in {path.parent / 'videos'} are not read.")
    measured = _Measured(ends=ends, path=path)
    for key in dict.fromkeys((*state, *action)):
        measured.look_at(key, arrays[key])
    notes += measured.notes()
    contract = Contract(
        robot=_robot(hints, notes),
        cameras=tuple(
            Camera(name=name, height=arrays[key].shape[1], width=arrays[key].shape[2]) for name, key in cameras.items()
        ),
        state=measured.dimensions(state),
        action=measured.dimensions(action),
        control_hz=_rate(hints, notes),
    )
    return Layout(
        contract=contract,
        cameras=cameras,
        state=state,
        action=action,
        instruction=_instruction(path, hints, notes),
        notes=(
            *notes,
            "Units and limits are not written in the file: limits are round numbers that hold its data.",
            "The format holds no rewards and no success: rewards are 0, success is unknown.",
        ),
    )


def _of_steps(arrays: Mapping[str, Any], ends: Sequence[int], notes: list[str]) -> dict[str, Any]:
    """Arrays with rows for steps; those with one for each episode are noted, and rows that no episode has."""
    found = {}
    for key, array in arrays.items():
        length = array.shape[0] if array.ndim else 0
        if length == len(ends) != ends[-1] or not array.ndim:
            notes.append(f"{key} is left out: it has no row for each step, its shape is {tuple(array.shape)}.")
            continue
        if length > ends[-1]:
            notes.append(f"{key} has {length - ends[-1]} rows after the last episode: they are left out.")
        found[key] = array
    return found


class _Measured:
    """Least and greatest numbers of arrays, of the episodes that can be read."""

    def __init__(self, *, ends: Sequence[int], path: Path) -> None:
        self._ends = ends
        self._path = path
        self._ranges: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._faults: dict[int, str] = {}

    def look_at(self, key: str, array: Any) -> None:
        """Read an array whole, or else episode by episode; that none can be read is a `DatasetError`."""
        where = f"{self._path}: data/{key}"
        try:
            self._ranges[key] = extremes(read_rows(array, slice(0, self._ends[-1]), where))
            return
        except DatasetError as error:
            fault = error
        parts = []
        for number, (start, end) in enumerate(pairwise((0, *self._ends))):
            try:
                parts.append(read_rows(array, slice(start, end), f"{where}, rows {start} to {end}"))
            except DatasetError as error:
                self._faults.setdefault(number, str(error))
        if not parts:
            raise fault
        self._ranges[key] = extremes(np.concatenate(parts))

    def dimensions(self, keys: Sequence[str]) -> tuple[Dimension, ...]:
        """Of some arrays, side by side."""
        pairs = [(key, *self._ranges[key]) for key in keys]
        return tuple(d for key, low, high in pairs for d in dimensions_of(key, low.tolist(), high.tolist()))

    def notes(self) -> list[str]:
        """What could not be read."""
        if not self._faults:
            return []
        number, first = next(iter(sorted(self._faults.items())))
        return [f"{len(self._faults)} of {len(self._ends)} episodes cannot be read; the first, {number}: {first}"]


def _cameras(arrays: Mapping[str, Any], notes: list[str]) -> dict[str, str]:
    """Frames (t, y, x, 3), as uint8 or as floats that hold whole numbers."""
    found: dict[str, str] = {}
    for key, array in sorted(arrays.items()):
        if array.ndim != 4 or array.shape[-1] != 3 or not (array.dtype == np.uint8 or array.dtype.kind == "f"):
            continue
        if array.dtype != np.uint8:
            first = None
            with contextlib.suppress(DatasetError):  # what is damaged, reading says
                first = read_rows(array, slice(0, 1), key)
            if first is not None:
                as_pixels(first, f"data/{key}, row 0")
            notes.append(f"{key} is {array.dtype} and becomes uint8; fractions are refused.")
        found[re.sub(r"[^A-Za-z0-9_.-]", "_", key).lstrip("_.-") or "camera"] = key
    return found


def _action(arrays: Mapping[str, Any], vectors: list[str], path: Path, notes: list[str]) -> tuple[str, ...]:
    found = [key for key in _ACTION if key in vectors][:1]
    if not found:
        robots = sorted({match[0] for key in vectors if (match := re.match(r"robot\d+(?=_eef_pos$)", key))})
        found = [f"{robot}_{end}" for robot in robots for end in _UMI if f"{robot}_{end}" in vectors]
        if found:
            notes.append(f"There are no commands: as in UMI's own loader the action is {', '.join(found)}, same step.")
    if not found:
        raise DatasetError(f"{path}: expected data/action (rows, width), got {sorted(arrays)}; rename the commands")
    return tuple(found)


def _robot(hints: Hints, notes: list[str]) -> str:
    if hints.robot is None:
        notes.append("The file does not name its robot: it is called unknown; name it with the import.")
    return hints.robot or "unknown"


def _rate(hints: Hints, notes: list[str]) -> float:
    if hints.control_hz is None:
        notes.append(f"The file does not say its rate: {_DEFAULT_HZ:g} Hz is assumed; give it with the import.")
    return hints.control_hz or _DEFAULT_HZ


def _instruction(path: Path, hints: Hints, notes: list[str]) -> str:
    if hints.instruction:
        return hints.instruction
    name = re.sub(r"(\.zarr|\.zip)+$", "", path.name)
    text = re.sub(r"[_\W]+", " ", name).strip() or "do the task"
    notes.append(f"There is no language: the instruction is {text!r}, from the file's name; give it with the import.")
    return text
