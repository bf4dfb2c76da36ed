"""A description to fill in: what was found in a source, as YAML with comments, which changes nothing as it stands."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from vla.core.contract import Contract, Dimension
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.formats.description import UNITS
from vla.datasets.formats.source import Hints, Source

WORDLESS = "(the recordings say nothing)"
"""Give this as the instruction of the source: an episode that has it has none of its own."""
_LOOKED_AT = 8
"""Episodes whose numbers are shown: reading all pictures of a large set takes long."""
_GRIPPER = re.compile(r"gripper|finger|jaw|claw", re.IGNORECASE)
_NUMBERED = re.compile(r"(.*[._])?\d+")
_ENDS = 0.1
"""Of the range: numbers that stay this near to its two ends are those of a gripper."""
_HELP = f"""\
# What you know of these recordings, and they do not say. As it stands, this file changes nothing.
#   was         what the source calls it: keep it, and keep the order
#   name        what you call it; an action with the name of a state and the unit rad is learned relative to that state:
#               give actions that are changes, not targets, names of their own
#   unit        what the recordings hold: {", ".join(UNITS)}; deg, mm, cm and % are converted
#   low, high   the robot's own limits, in that unit: an episode outside is refused; null keeps the range of the data
# Import with: vla data convert SOURCE DATASET --describe THIS_FILE"""


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What the episodes that were looked at hold."""

    episodes: int
    words: tuple[str, ...]
    wordless: int
    state: np.ndarray
    action: np.ndarray
    problem: str
    """Of the first episode that could not be read."""


def write_template(source: Source, *, format_name: str, options: Mapping[str, Any], hints: Hints) -> str:
    """The YAML of a description of ``source``, which was opened with `WORDLESS` where the hints have no instruction."""
    contract, seen = source.contract, _look(source)
    lines = [_HELP, "#", "# What the source says:", *(f"#   {' '.join(note.split())}" for note in source.notes)]
    if seen.problem:
        lines += ["#", f"# An episode that could not be read: {' '.join(seen.problem.split())}"]
    lines += ["", f"format: {_text(format_name)}"]
    if options:
        lines.append(f"options: {json.dumps(dict(options), ensure_ascii=False)}")
    known = {"robot": None if contract.robot == "unknown" else contract.robot, "control_hz": contract.control_hz}
    comments = {
        "robot": "what the robot is called",
        "control_hz": "steps in one second",
        "instruction": _words(seen),
        "task": "null: the instruction is the task",
        "split": "null: as in the source, or train",
        "flip_images": "cameras that are stored upside down, as the source calls them; [] for none",
    }
    for hint in fields(Hints):
        value = getattr(hints, hint.name)
        comment = f"  # {comments[hint.name]}" if hint.name in comments else ""
        lines.append(f"{hint.name}: {_text(known.get(hint.name) if value is None else value)}{comment}")
    lines += ["", *_gripper(contract, seen)]
    for part, rows in (("state", seen.state), ("action", seen.action)):
        lines += ["", *_dimensions(part, getattr(contract, part), rows)]
    rates = {camera.name: camera.hz or contract.control_hz for camera in contract.cameras}
    lines += ["", "cameras:  # name: null leaves one out" if contract.cameras else "cameras: []  # none were found"]
    lines += [
        f"  - {{was: {_text(c.name)}, name: {_text(c.name)}, height: {c.height}, width: {c.width}}}  # {c.kind} "
        f"at {rates[c.name]:g} Hz"
        for c in contract.cameras
    ]
    return "\n".join(lines) + "\n"


def unnamed(contract: Contract) -> str:
    """A warning where no action has a unit, and names are numbers or those of the state: they may well be joints."""
    names, states = [d.name for d in contract.action], {d.name for d in contract.state}
    numbered = all(_NUMBERED.fullmatch(name) for name in names)
    if not names or any(d.unit != "1" for d in contract.action) or not (numbered or states.intersection(names)):
        return ""
    what = "neither names nor units" if numbered else "no units"
    return (
        f"the actions have {what} ({names[0]}, unit 1): none is learned relative to the state, and limits are those of "
        "the data; if they are joints or poses, say so: --describe-template FILE writes what to fill in, "
        "--describe FILE imports with it"
    )


def guess_gripper(contract: Contract, action: np.ndarray) -> tuple[str, str]:
    """The action that may be the gripper, with the reason; empty where nothing looks like one."""
    named = [d.name for d in contract.action if _GRIPPER.search(d.name)]
    if len(named) == 1:
        return named[0], "by its name"
    ends = []
    for column, dimension in zip(action.T, contract.action, strict=True):
        low, high = float(column.min(initial=np.inf)), float(column.max(initial=-np.inf))
        near = np.minimum(column - low, high - column) <= _ENDS * (high - low)
        if high > low and near.mean() > 0.9:
            ends.append(dimension.name)
    return (ends[0], "its numbers stay near two values") if len(ends) == 1 and len(action) > 1 else ("", "")


def _look(source: Source) -> _Seen:
    """Read some episodes, evenly spread; those that cannot be read are passed over."""
    episodes: list[Episode] = []
    problem = ""
    for number in np.unique(np.linspace(0, len(source) - 1, min(_LOOKED_AT, len(source))).astype(int)).tolist():
        try:
            episodes.append(source.read(number))
        except DatasetError as error:
            problem = problem or str(error)
    contract = source.contract
    return _Seen(
        episodes=len(episodes),
        words=tuple(dict.fromkeys(e.instruction for e in episodes if e.instruction != WORDLESS)),
        wordless=sum(e.instruction == WORDLESS for e in episodes),
        state=np.concatenate([e.state for e in episodes] or [np.empty((0, len(contract.state)))]),
        action=np.concatenate([e.action for e in episodes] or [np.empty((0, len(contract.action)))]),
        problem=problem,
    )


def _words(seen: _Seen) -> str:
    """What the episodes say."""
    if seen.wordless:
        return f"needed: {seen.wordless} of {seen.episodes} episodes looked at have no words of their own"
    shown = ", ".join(map(_text, seen.words[:3])) + (", ..." if len(seen.words) > 3 else "")
    return f"used where an episode has no words; found: {shown or 'nothing'}"


def _gripper(contract: Contract, seen: _Seen) -> Iterator[str]:
    if contract.gripper is not None:
        yield f"gripper: {{action: {_text(contract.gripper)}, opens: larger}}  # as the source says"
        return
    name, reason = guess_gripper(contract, seen.action)
    yield "# Which action is the gripper, and which numbers open it: larger or smaller. null: there is none."
    if name:
        yield f"# A guess, {reason}; which way it opens is not known: {{action: {_text(name)}, opens: larger}}"
    yield "gripper: null"


def _dimensions(part: str, dimensions: Sequence[Dimension], rows: np.ndarray) -> Iterator[str]:
    yield f"{part}:  # {len(dimensions)} numbers" if dimensions else f"{part}: []"
    for place, d in enumerate(dimensions):
        seen = f"seen {rows[:, place].min():.6g} to {rows[:, place].max():.6g}" if len(rows) else "not seen"
        name = _text(d.name)
        yield f"  - {{was: {name}, name: {name}, unit: {_text(d.unit)}, low: null, high: null}}  # {seen}"


def _text(value: Any) -> str:
    """A value of YAML on one line."""
    return json.dumps(value, ensure_ascii=not str(value).isprintable())
