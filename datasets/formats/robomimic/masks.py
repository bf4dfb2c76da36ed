"""Which split each demonstration is in, from the lists of names under ``/mask``.

robomimic calls the lists filter keys: some are splits (train, valid, test), some are other choices (20_percent,
better). A demonstration has one split, so that what is evaluated is never learned from.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla.datasets.formats.robomimic.header import plain
from vla.datasets.formats.robomimic.tree import UnreadableError, read_rows, walk

UNLISTED = "unlisted"
"""The split of a demonstration that no list names, where others are listed to be trained on."""
_HELD_OUT = ("test", "testing", "valid", "val", "validation", "eval", "holdout", "held_out")
_TRAIN = ("train", "training")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Masks:
    """The lists of one file."""

    names: Mapping[str, frozenset[str]]
    """The demonstrations of each list."""
    splits: tuple[str, ...]
    """Lists that are splits: the first that names a demonstration has it."""
    notes: tuple[str, ...]

    def keys_of(self, demo: str) -> list[str]:
        """Every list that names the demonstration."""
        return [key for key, names in self.names.items() if demo in names]

    def split_of(self, demo: str) -> str:
        """Its split; ``train`` where no list is for training and none names it."""
        found = next((split for split in self.splits if demo in self.names[split]), None)
        return found or (UNLISTED if any(split in _TRAIN for split in self.splits) else "train")


def read_masks(file: Any, demos: Sequence[str]) -> Masks:
    """The lists of a file that holds ``demos``; lists that are none, and names of nothing, are noted."""
    import h5py

    notes: list[str] = []
    lists = file.get("mask")
    if lists is not None and not isinstance(lists, h5py.Group):
        notes.append("/mask is an array instead of a group of lists: it is left out, and so are splits.")
    names = _lists(lists, notes) if isinstance(lists, h5py.Group) else {}
    for key, listed in names.items():
        if unknown := sorted(listed - set(demos)):
            notes.append(f"Mask {key} names {len(unknown)} demonstrations that do not exist: {_some(unknown)}.")
    names = {key: listed & set(demos) for key, listed in names.items() if listed & set(demos)}
    splits = _splits(names, notes)
    masks = Masks(names=names, splits=splits, notes=())
    counts = {split: sum(masks.split_of(demo) == split for demo in demos) for split in (*splits, "train", UNLISTED)}
    if splits:
        shown = ", ".join(f"{split} ({count})" for split, count in counts.items() if count)
        notes.append(f"Splits are from the masks: {shown}.")
    if counts[UNLISTED] and UNLISTED not in splits:
        left = [demo for demo in demos if masks.split_of(demo) == UNLISTED]
        notes.append(f"{len(left)} demonstrations are in no split: theirs is called {UNLISTED} ({_some(left)}).")
    return Masks(names=names, splits=splits, notes=tuple(notes))


def _lists(group: Any, notes: list[str]) -> dict[str, frozenset[str]]:
    tree = walk(group)
    found = {}
    for key, texts in tree.texts.items():
        try:
            found[key] = frozenset(str(plain(name)) for name in np.ravel(read_rows(texts)))
        except UnreadableError as error:
            notes.append(f"Mask {key} is left out: {error}.")
    others = {**dict.fromkeys(tree.arrays, "expected names of demonstrations, got numbers"), **tree.left}
    notes += [f"Mask {key} is left out: {why}." for key, why in others.items()]
    return found


def _splits(names: Mapping[str, frozenset[str]], notes: list[str]) -> tuple[str, ...]:
    """Those that are called splits, what is held out first, and others that share no demonstration with any list."""
    called = [key for key in (*_HELD_OUT, *_TRAIN) if key in names]
    for key, other, shared in _overlaps(names):
        if key in called and other in called:
            first = min(key, other, key=called.index)
            notes.append(
                f"Masks {key} and {other} overlap: {len(shared)} demonstrations are in both ({_some(sorted(shared))}) "
                f"and become {first}."
            )
    others = []
    for key in sorted(set(names) - set(called)):
        overlapping = [other for one, other, _ in _overlaps(names) if one == key] + [
            one for one, other, _ in _overlaps(names) if other == key
        ]
        if not overlapping:
            others.append(key)
        else:
            notes.append(f"Mask {key} overlaps {_some(sorted(overlapping))}: it is kept in the provenance, no split.")
    return (*called, *others)


def _overlaps(names: Mapping[str, frozenset[str]]) -> Iterator[tuple[str, str, frozenset[str]]]:
    keys = sorted(names)
    for place, key in enumerate(keys):
        for other in keys[place + 1 :]:
            if shared := names[key] & names[other]:
                yield key, other, shared


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
