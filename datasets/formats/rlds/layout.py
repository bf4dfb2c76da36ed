"""Which features of an RLDS dataset become cameras, state, action and text, and what is left out."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vla.core.errors import DatasetError
from vla.datasets.formats.rlds.features import FEATURES, STEPS, Leaf

_STATE = ("observation/state", "observation/proprio")
_TEXTS = ("language_instruction", "natural_language_instruction", "instruction")
_OUTCOME = ("success", "episode_metadata/success", "attributes/success")
_KNOWN = ("is_first", "is_last", "is_terminal", "reward", "discount")
_NOT_COMMANDS = ("terminate_episode",)
_LONGEST = 64
"""A longer vector is an embedding or a map, not a state."""


@dataclass(frozen=True, kw_only=True)
class RldsKeys:
    """Features to use instead of those that are found, named below ``steps``, like ``action_dict/joint_velocity``."""

    state: tuple[str, ...] = ()
    """Side by side, in this order."""
    action: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class View:
    """A camera and the feature of its pictures."""

    name: str
    leaf: Leaf
    kind: Literal["rgb", "depth"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How features are read."""

    views: tuple[View, ...]
    state: tuple[Leaf, ...]
    action: tuple[Leaf, ...]
    instructions: tuple[Leaf, ...]
    """The first that has a text is the instruction."""
    metadata: tuple[Leaf, ...]
    """Of the episode."""
    success: Leaf | None
    flags: dict[str, Leaf]
    """``is_last``, ``is_terminal`` and ``reward``, as far as they are there."""
    steps: tuple[Leaf, ...]
    """All that tell how many steps there are."""
    notes: tuple[str, ...]


def plan_layout(folder: Path, leaves: Sequence[Leaf], keys: RldsKeys) -> Layout:
    """Choose; a dataset without actions is a `DatasetError`."""
    notes: list[str] = []
    below = {leaf.name.removeprefix(f"{STEPS}/"): leaf for leaf in leaves if leaf.of_step}
    views = _views(below, notes)
    state = _named(folder, below, keys.state) or _state(below, notes)
    action = _named(folder, below, keys.action) or _action(below, notes)
    if not action:
        raise DatasetError(
            f"{folder / FEATURES}: expected numbers in {STEPS}/action, got {sorted(below)}; name the features of the "
            "action: --set action=[feature]"
        )
    instructions = _instructions(leaves)
    metadata = tuple(leaf for leaf in leaves if not leaf.of_step and leaf.kind in ("text", "tensor"))
    used = {leaf.name for leaf in (*state, *action, *instructions, *(view.leaf for view in views))}
    left = [
        f"{key} ({leaf.problem})" if leaf.problem else key
        for key, leaf in below.items()
        if leaf.name not in used and key not in _KNOWN
    ]
    if left:
        notes.append(f"These features of the steps are left out: {', '.join(left)}.")
    return Layout(
        views=views,
        state=state,
        action=action,
        instructions=instructions,
        metadata=metadata,
        success=next((leaf for leaf in metadata if leaf.name in _OUTCOME and leaf.width == 1), None),
        flags={key: below[key] for key in _KNOWN if key in below and below[key].width == 1},
        steps=tuple(leaf for leaf in below.values() if leaf.kind != "unread"),
        notes=tuple(notes),
    )


def dimension_names(leaves: Sequence[Leaf]) -> list[str]:
    """A name for each number of these features side by side, ``key.place``, so that an export finds the keys again."""
    names: list[str] = []
    for leaf in leaves:
        base = leaf.name.removeprefix(f"{STEPS}/").removeprefix("observation/").replace("/", ".")
        base = base.removeprefix("action.") or base
        for place in range(leaf.width or 0):
            name = f"{base}.{place}"
            while name in names:
                name += "_2"
            names.append(name)
    return names


def _named(folder: Path, below: dict[str, Leaf], names: Iterable[str]) -> tuple[Leaf, ...]:
    """The features that a user named."""
    found = []
    for name in names:
        leaf = below.get(name.removeprefix(f"{STEPS}/"))
        if leaf is None or not leaf.is_number:
            numbers = sorted(key for key, other in below.items() if other.is_number)
            raise DatasetError(f"{folder / FEATURES}: {name!r} is no feature with numbers; choose of {numbers}")
        found.append(leaf)
    return tuple(found)


def _views(below: dict[str, Leaf], notes: list[str]) -> tuple[View, ...]:
    """Every picture with three channels, or of distances."""
    found: dict[str, View] = {}
    for key, leaf in below.items():
        kind = _picture_kind(leaf)
        if kind is None:
            continue
        if kind == "depth":
            notes.append(f"{key} is read as distances in millimetres: the dataset does not say their unit.")
        name = re.sub(r"[^A-Za-z0-9_.-]", ".", key.removeprefix("observation/")).lstrip("_.-") or "camera"
        while name in found:
            name += "_2"
        found[name] = View(name=name, leaf=leaf, kind=kind)
    return tuple(found.values())


def _picture_kind(leaf: Leaf) -> Literal["rgb", "depth"] | None:
    """What a feature shows; None where it is no picture, or one that a camera cannot hold."""
    if len(leaf.shape) != 3 or leaf.kind not in ("image", "tensor"):
        return None
    if leaf.dtype == "uint8" and leaf.shape[2] == 3:
        return "rgb"
    return "depth" if leaf.dtype == "uint16" and leaf.shape[2] == 1 else None


def _state(below: dict[str, Leaf], notes: list[str]) -> tuple[Leaf, ...]:
    """The state, or else every other vector that was observed."""
    for key in (*_STATE, "observation"):
        if key in below and below[key].is_number and _picture_kind(below[key]) is None:
            return (below[key],)
    found, long = list[Leaf](), list[Leaf]()
    for key, leaf in below.items():
        if not key.startswith("observation/") or not leaf.is_number or "float" not in leaf.dtype:
            continue
        (long if "embedding" in key or (leaf.width or 0) > _LONGEST else found).append(leaf)
    names = ", ".join(leaf.name.removeprefix(f"{STEPS}/") for leaf in found)
    notes.append(
        f"The dataset has no {_STATE[0]}: the state is {names}, side by side."
        if found
        else f"The dataset has no {_STATE[0]} and no other observed numbers: the state is empty."
    )
    if long:
        notes.append(f"Not part of the state, as too long: {', '.join(leaf.name for leaf in long)}.")
    return tuple(found)


def _action(below: dict[str, Leaf], notes: list[str]) -> tuple[Leaf, ...]:
    """The action, or else its parts in the order of their names."""
    if "action" in below:
        return (below["action"],) if below["action"].is_number else ()
    parts = [leaf for key, leaf in below.items() if key.startswith("action/") and leaf.is_number]
    found = [leaf for leaf in parts if leaf.name.rpartition("/")[2] not in _NOT_COMMANDS]
    found = [leaf for leaf in found if (leaf.width or 0) <= _LONGEST]
    if found:
        names = [leaf.name.rpartition("/")[2] for leaf in found]
        notes.append(f"The action has parts, which are put side by side: {', '.join(names)}.")
    return tuple(found)


def _instructions(leaves: Sequence[Leaf]) -> tuple[Leaf, ...]:
    """Texts that say what to do, the usual names first."""
    found = []
    for leaf in leaves:
        last = leaf.name.rpartition("/")[2]
        codes = last == "instruction" and leaf.is_number and "int" in leaf.dtype and leaf.encoding == "none"
        if (leaf.kind == "text" and "instruction" in last) or codes:
            rank = _TEXTS.index(last) if last in _TEXTS else len(_TEXTS)
            found.append((not leaf.of_step, rank, leaf.name, leaf))
    return tuple(leaf for *_, leaf in sorted(found, key=lambda item: item[:3]))
