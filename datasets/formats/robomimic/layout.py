"""Which observations of a robomimic file become cameras and state, and the contract that follows."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla.core.contract import Camera, Contract
from vla.core.errors import DatasetError
from vla.datasets.formats.dimensions import dimensions_of
from vla.datasets.formats.robomimic.demos import Form
from vla.datasets.formats.robomimic.header import described
from vla.datasets.formats.robomimic.orientation import orientation
from vla.datasets.formats.robomimic.survey import Listed, Survey, survey_of
from vla.datasets.formats.source import Hints

_DEFAULT_HZ = 20.0
"""robosuite's own; its collector writes none."""
_PROPRIOCEPTION = ("joint_pos", "eef_pos", "eef_quat", "gripper_qpos", "gripper_pos")
_LIBERO = ("joint_states", "ee_pos", "ee_ori", "gripper_states")
_PRIVILEGED = re.compile(r"object(-state)?|.*lang_emb.*|datagen_.*|(last_)?actions?")
"""Poses of things, which no robot can see, embeddings of the instruction, and commands."""
_SLIDING_GRIPPERS = ("Panda", "Sawyer")
"""Robots whose gripper_qpos is in metres."""
_OUTCOME = ("actions", "rewards", "dones", "states")
"""What is read beside observations."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How observations are read."""

    contract: Contract
    cameras: Mapping[str, str]
    """The observation of each camera."""
    turned: Mapping[Path, tuple[str, ...]]
    """For each file the cameras whose row 0 is at the bottom."""
    state: tuple[str, ...]
    """Observations, side by side, in order."""
    forms: Mapping[str, Form]
    """What each array that is read must hold."""
    robot: tuple[str | None, float | None]
    """What the files say of robot and rate."""
    demos: tuple[Listed, ...]
    notes: tuple[str, ...]


def plan_layout(files: Sequence[Path], hints: Hints) -> Layout:
    """Look at every demonstration of every file; that none is sound is a `DatasetError`."""
    survey = survey_of(files)
    common, robot = survey.common(), survey.robot()
    keys = {key.removeprefix("obs/"): form for key, form in common.items() if key.startswith("obs/")}
    notes = survey.notes
    cameras = _cameras(keys, notes)
    state = _state(keys, cameras.values(), notes)
    used = ["actions", *(f"obs/{key}" for key in (*state, *cameras.values()))]
    forms = {key: common[key] for key in used}
    if len(used) == 1 and not any("states" in seen.others for seen in survey.seen.values()):
        left = survey.left_out(common)
        raise DatasetError(
            f"{files[0]}: expected obs or states beside the actions; nothing to learn: "
            f"{left[0] if left else 'there is nothing else'}"
        )
    turned = orientation(survey.headers, cameras, hints, notes)
    ranges = survey.measure(forms, robot)
    notes += survey.left_out((*used, *_OUTCOME))
    sliding = (robot[0] or "").startswith(_SLIDING_GRIPPERS)
    units = {key: "m" for key in state if sliding and key.endswith("gripper_qpos")}
    dimensions = [d for key in state for d in dimensions_of(key, *_listed(ranges[f"obs/{key}"]), units)]
    if hints.robot is None and robot[0] is None:
        notes.append("The file does not name its robot: it is called unknown; name it with the import.")
    contract = Contract(
        robot=hints.robot or robot[0] or "unknown",
        cameras=tuple(
            Camera(name=name, height=keys[key][1][0], width=keys[key][1][1]) for name, key in cameras.items()
        ),
        state=tuple(dimensions),
        action=dimensions_of("actions", *_listed(ranges["actions"])),
        control_hz=_rate(files[0], robot[1], hints, notes),
    )
    _note_origin(survey, cameras, hints, notes)
    return Layout(
        contract=contract,
        cameras=cameras,
        turned=turned,
        state=state,
        forms=forms,
        robot=robot,
        demos=tuple(survey.demos),
        notes=tuple(dict.fromkeys(notes)),
    )


def _cameras(keys: Mapping[str, Form], notes: list[str]) -> dict[str, str]:
    """Camera names with their observations: ``agentview`` from ``agentview_image``."""
    found: dict[str, str] = {}
    for key, (kind, shape) in sorted(keys.items()):
        if len(shape) < 2:
            continue
        if key.endswith("_depth"):
            notes.append(f"Depth {key} is left out: robosuite stores the z-buffer, not metres.")
        elif kind != "frames":
            notes.append(f"{key} is left out: expected frames uint8 (y, x, 3), got {shape}.")
        else:
            name = re.sub(r"[^A-Za-z0-9_.-]", "_", re.sub(r"_(image|rgb)$", "", key)).lstrip("_.-") or "camera"
            while name in found:
                name += "_rgb"
            found[name] = key
    return found


def _state(keys: Mapping[str, Form], pictures: Collection[str], notes: list[str]) -> tuple[str, ...]:
    """Proprioception in a fixed order, or else every vector that a robot could know."""
    vectors = sorted(key for key, (kind, shape) in keys.items() if len(shape) <= 1)
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


def _rate(path: Path, written: float | None, hints: Hints, notes: list[str]) -> float:
    if written is None and hints.control_hz is None:
        notes.append(
            f"The file does not say its rate: {_DEFAULT_HZ:g} Hz, which is robosuite's, is assumed; "
            "give it with --control-hz."
        )
    if written is not None and hints.control_hz not in (None, written):
        raise DatasetError(
            f"{path}: the file says {written:g} steps a second, got control_hz {hints.control_hz:g}; "
            "leave it out: an import does not resample"
        )
    return written or hints.control_hz or _DEFAULT_HZ


def _note_origin(survey: Survey, cameras: Collection[str], hints: Hints, notes: list[str]) -> None:
    notes.append("Limits are not written in the file: they are round numbers that hold its data.")
    notes.append("Numbers of 64 bits are rounded to 32 bits; the simulator's states are kept as they are.")
    headers = survey.headers.values()
    if any(header.is_robosuite for header in headers):
        notes.append(
            "Actions are the inputs of robosuite's controller, which may be offsets instead of absolute targets."
        )
    else:
        notes.append("What actions mean is not written: they may be offsets instead of absolute targets.")
    if any(header.problem_info for header in headers) and cameras:
        notes.append("LIBERO stores observations after each action, one step later than its states: they are kept so.")
    count = survey.success.total()
    for (value, origin), number in survey.success.items():
        words = {True: "yes", False: "no", None: "unknown"}[value]
        notes.append(f"Success is {words} in {number} of {count} demonstrations, {origin}.")
    if survey.early:
        notes.append(f"dones is 1 before the last step in {survey.early} demonstrations: that says nothing of success.")
    if survey.unrewarded:
        notes.append(f"There are no rewards in {survey.unrewarded} demonstrations: they are 0.")
    notes += [
        f"{path.name}: there is no language: the instruction is {described(survey.headers[path], path)!r}, from the "
        f"name {survey.headers[path].env_name if survey.headers[path].is_named else path.stem}; give --instruction."
        for path in sorted(survey.wordless)
        if hints.instruction is None
    ]


def _listed(pair: tuple[np.ndarray, np.ndarray]) -> tuple[list[float], list[float]]:
    return pair[0].tolist(), pair[1].tolist()
