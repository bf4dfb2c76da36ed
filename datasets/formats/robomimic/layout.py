"""Which observations of a robomimic file become cameras and state, and the contract that follows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.contract import Camera, Contract
from vla.core.errors import DatasetError
from vla.datasets.formats.dimensions import dimensions_of, extremes
from vla.datasets.formats.robomimic.file import Header, demonstrations, open_hdf5, read_header
from vla.datasets.formats.source import Hints

_DEFAULT_HZ = 20.0
"""robosuite's own; its collector writes none."""
_PROPRIOCEPTION = ("joint_pos", "eef_pos", "eef_quat", "gripper_qpos")
_LIBERO = ("joint_states", "ee_pos", "ee_ori", "gripper_states")
_PRIVILEGED = re.compile(r"object(-state)?|.*lang_emb.*|datagen_.*")
"""Poses of things, which no robot can see, and embeddings of the instruction."""
_SLIDING_GRIPPERS = ("Panda", "Sawyer")
"""Robots whose gripper_qpos is in metres."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How observations are read."""

    contract: Contract
    cameras: Mapping[str, str]
    """The observation of each camera."""
    state: tuple[str, ...]
    """Observations, side by side, in order."""
    demos: tuple[tuple[Path, str], ...]
    notes: tuple[str, ...]


def observations(demo: Any) -> dict[str, Any]:
    """Every array below ``obs``, by its path."""
    import h5py

    found: dict[str, Any] = {}
    if "obs" in demo:
        demo["obs"].visititems(lambda name, item: found.update({name: item}))
    return {name: item for name, item in found.items() if isinstance(item, h5py.Dataset)}


def plan_layout(files: Sequence[Path], hints: Hints) -> Layout:
    """Look at every demonstration of every file; those that do not fit the first are a `DatasetError`."""
    survey = _Survey()
    for path in files:
        with open_hdf5(path) as file:
            names = demonstrations(file, path)
            survey.look_at_file(file, path, names)
            for name in names:
                survey.look_at(file["data"][name], path)
    if not survey.demos:
        raise DatasetError(f"{files[0]}: expected demonstrations with actions in /data, got none; nothing was recorded")
    return _layout(survey, hints)


class _Survey:
    """What is the same in all demonstrations, and the range of their numbers."""

    def __init__(self) -> None:
        self.header = Header(env_args={}, problem_info={}, origin={})
        self.demos: list[tuple[Path, str]] = []
        self.shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
        self.ranges: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.notes: list[str] = []

    def look_at_file(self, file: Any, path: Path, names: Sequence[str]) -> None:
        header = read_header(file, path)
        if not self.demos:
            self.header = header
        elif (ours := (self.header.robot, self.header.control_hz)) != (theirs := (header.robot, header.control_hz)):
            raise DatasetError(
                f"{path}: expected the robot and rate {ours} of {self.demos[0][0].name}, got {theirs}; import it alone"
            )
        if cut := sorted(set(file["data"]) - set(names)):
            self.notes.append(f"{path.name}: {', '.join(cut)} has no actions and is left out.")

    def look_at(self, demo: Any, path: Path) -> None:
        if int(demo["actions"].shape[0]) == 0:
            self.notes.append(f"{path.name}: {demo.name} has no steps and is left out.")
            return
        arrays = {"actions": demo["actions"], **{f"obs/{key}": array for key, array in observations(demo).items()}}
        shapes = {key: (array.dtype.kind, tuple(array.shape[1:])) for key, array in arrays.items()}
        if not self.shapes:
            self.shapes = shapes
            if len(arrays) == 1 and "states" not in demo:
                raise DatasetError(f"{path}: {demo.name}: expected obs or states, got {sorted(demo)}; nothing to learn")
        if shapes != self.shapes:
            wrong = sorted(key for key in {*shapes, *self.shapes} if shapes.get(key) != self.shapes.get(key))
            raise DatasetError(
                f"{path}: {demo.name}: expected the arrays of {self.demos[0][0].name}:{self.demos[0][1]}, got other "
                f"shapes of {', '.join(wrong)}; import it alone"
            )
        for key, array in arrays.items():
            if array.ndim <= 2 and array.dtype.kind in "fiub":
                low, high = extremes(np.reshape(array[()], (array.shape[0], -1)))
                before = self.ranges.get(key, (low, high))
                self.ranges[key] = np.minimum(low, before[0]), np.maximum(high, before[1])
        self.demos.append((path, str(demo.name).rsplit("/", 1)[-1]))


def _layout(survey: _Survey, hints: Hints) -> Layout:
    notes = survey.notes
    keys = {key.removeprefix("obs/"): shape for key, shape in survey.shapes.items() if key.startswith("obs/")}
    cameras = _cameras(keys, notes)
    state = _state(keys, cameras.values(), notes)
    robot = hints.robot or survey.header.robot
    if robot is None:
        notes.append("The file does not name its robot: it is called unknown; name it with the import.")
    sliding = (survey.header.robot or "").startswith(_SLIDING_GRIPPERS)
    units = {key: "m" for key in state if sliding and key.endswith("gripper_qpos")}
    dimensions = [d for key in state for d in dimensions_of(key, *_listed(survey.ranges[f"obs/{key}"]), units)]
    contract = Contract(
        robot=robot or "unknown",
        cameras=tuple(
            Camera(name=name, height=keys[key][1][0], width=keys[key][1][1]) for name, key in cameras.items()
        ),
        state=tuple(dimensions),
        action=dimensions_of("actions", *_listed(survey.ranges["actions"])),
        control_hz=_rate(survey, hints, notes),
    )
    _note_origin(survey.header, cameras, notes)
    return Layout(
        contract=contract, cameras=cameras, state=state, demos=tuple(survey.demos), notes=tuple(dict.fromkeys(notes))
    )


def _cameras(keys: Mapping[str, tuple[str, tuple[int, ...]]], notes: list[str]) -> dict[str, str]:
    """Camera names with their observations: ``agentview`` from ``agentview_image``."""
    found: dict[str, str] = {}
    for key, (kind, shape) in sorted(keys.items()):
        if len(shape) < 2:
            continue
        if key.endswith("_depth"):
            notes.append(f"Depth {key} is left out: robosuite stores the z-buffer, not metres.")
        elif kind != "u" or len(shape) != 3 or shape[-1] != 3:
            notes.append(f"{key} is left out: expected frames uint8 (y, x, 3), got {shape}.")
        else:
            name = re.sub(r"[^A-Za-z0-9_.-]", "_", re.sub(r"_(image|rgb)$", "", key)).lstrip("_.-") or "camera"
            found[name if name not in found else f"{name}_rgb"] = key
    return found


def _state(
    keys: Mapping[str, tuple[str, tuple[int, ...]]], pictures: Sequence[str] | Any, notes: list[str]
) -> tuple[str, ...]:
    """Proprioception in a fixed order, or else every vector that a robot could know."""
    vectors = sorted(key for key, (kind, shape) in keys.items() if len(shape) <= 1 and kind in "fiub")
    found = [k for end in _PROPRIOCEPTION for k in vectors if re.fullmatch(rf"((robot\d+_)?((right|left)_)?){end}", k)]
    found = found or [key for key in _LIBERO if key in vectors]
    if not found:
        found = [key for key in vectors if not _PRIVILEGED.fullmatch(key.rsplit("/", 1)[-1])]
        if found:
            notes.append(f"No proprioception of robosuite was found: the state is {', '.join(found)}.")
    if not found:
        notes.append("The file holds no proprioception: the state is empty; the simulator's states are kept.")
    if left := [key for key in keys if key not in (*found, *pictures) and len(keys[key][1]) <= 1]:
        notes.append(f"These observations are left out: {', '.join(left)}.")
    return tuple(found)


def _rate(survey: _Survey, hints: Hints, notes: list[str]) -> float:
    written = survey.header.control_hz
    if written is None and hints.control_hz is None:
        notes.append(f"The file does not say its rate: robosuite's {_DEFAULT_HZ:g} Hz is assumed.")
    if written is not None and hints.control_hz not in (None, written):
        raise DatasetError(
            f"{survey.demos[0][0]}: the file says {written:g} steps a second, got control_hz {hints.control_hz:g}; "
            "leave it out: an import does not resample"
        )
    return written or hints.control_hz or _DEFAULT_HZ


def _note_origin(header: Header, cameras: Mapping[str, str], notes: list[str]) -> None:
    notes.append("Limits are not written in the file: they are round numbers that hold its data.")
    notes.append("Numbers of 64 bits are rounded to 32 bits; the simulator's states are kept as they are.")
    notes.append("Actions are the inputs of robosuite's controller, which may be offsets instead of absolute targets.")
    if header.upside_down and cameras:
        notes.append("Frames are stored with row 0 at the bottom (LIBERO) and are turned.")
        notes.append("LIBERO stores observations after each action, one step later than its states: they are kept so.")


def _listed(pair: tuple[np.ndarray, np.ndarray]) -> tuple[list[float], list[float]]:
    return pair[0].tolist(), pair[1].tolist()
