"""Which episodes of a source a dataset has already: by their content, never by their path and number alone.

A recording is all of its arrays, the pictures too (`content_hash`); its labels are what `EDITABLE` names. An episode of
a source is one of four things:

    same       the recording is there, with the labels that the source says, or once said
    relabelled the recording is there, and the source says something new of it: the dataset follows
    replaced   what this source had at this number has the same motion and other pictures, rewards, ...: the dataset
               follows, and the old one stays in older versions
    new        anything else
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vla.core.types import Episode
from vla.datasets.dataset import Dataset
from vla.datasets.store.content import content_hash, motion_hash
from vla.datasets.store.manifest import Manifest
from vla.datasets.store.records import EDITABLE, EpisodeRecord

Labels = Mapping[str, Any]
"""A value of each of the editable fields."""


def labels_of(episode: Episode | EpisodeRecord) -> dict[str, Any]:
    """What is said of a recording."""
    values = {name: getattr(episode, name) for name in EDITABLE}
    success = values["success"]
    return {
        **values,
        "instruction_alternatives": tuple(values["instruction_alternatives"]),
        "success": None if success is None else bool(success),
    }


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one episode of the source."""

    number: int
    steps: int = 0
    uid: str = ""
    """Of the episode that was written; empty where none was."""
    content: str = ""
    """The hash by which it was looked up."""
    labels: Labels = field(default_factory=dict)
    replaces: str = ""
    """Uid of the episode in whose place it was written."""
    notes: tuple[str, ...] = ()
    """What was assumed of it, or could not be carried over."""
    invalid: str = ""
    """Why it was left out."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What workers need to know of the episodes that are there."""

    contents: frozenset[str] = frozenset()
    numbers: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Motion and uid of what this source had at a number."""

    def find(self, episode: Episode, number: int) -> tuple[str, bool, str]:
        """Its hash, whether its recording is there, and the uid of the episode that it replaces, or nothing."""
        content, motion = content_hash(episode), motion_hash(episode)
        if motion in self.contents:  # written by an older version, whose hash was of the motion
            return motion, True, ""
        before, uid = self.numbers.get(number, ("", ""))
        return content, content in self.contents, uid if before == motion else ""


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What follows for the dataset."""

    edits: Mapping[str, Labels]
    """{uid: {field: value}} that the source says anew."""
    dropped: frozenset[str]
    """Uids that others stand for now."""
    same: int
    changed: tuple[str, ...]
    """One sentence for each episode that was relabelled or replaced."""
    missing: tuple[int, ...]
    """Numbers that are there fewer times than the source has them: they are still to be written."""

    def change(self, latest: Manifest) -> Manifest:
        """The version with the edits."""
        overrides = {uid: dict(fields) for uid, fields in latest.overrides.items()}
        for uid, fields in self.edits.items():
            overrides[uid] = {**overrides.get(uid, {}), **fields}
        return replace(latest, overrides=overrides, dropped=tuple(sorted({*latest.dropped, *self.dropped})))


class Inventory:
    """The episodes of a dataset, by their content."""

    def __init__(self, dataset: Dataset | None, where: str, *, own: bool = False) -> None:
        """``where`` names the source; ``own`` looks only at episodes that came from it."""
        self._dataset = dataset
        self._places: dict[str, list[int]] = defaultdict(list)
        numbers = {}
        for place in range(0 if dataset is None else len(dataset.episodes)):
            assert dataset is not None
            source = dataset.episodes.extra(place).get("provenance", {}).get("source", {})
            mine = isinstance(source, dict) and source.get("path") == where
            if mine or not own:
                self._places[dataset.episodes.hashes[place].decode()].append(place)
            if mine and isinstance(source.get("motion"), str):
                numbers[int(source["episode"])] = source["motion"], dataset.episodes.uids[place].decode()
        self.known = Known(contents=frozenset(self._places), numbers=numbers)
        self._segments: dict[str, Dataset] = {}

    def settle(self, outcomes: Iterable[Outcome], *, twins: bool) -> Settled:
        """Match what was found and written with what is there; ``twins`` keeps copies within the source."""
        found: dict[str, list[Outcome]] = defaultdict(list)
        written: list[Outcome] = []
        for outcome in sorted(outcomes, key=lambda outcome: outcome.number):
            if outcome.uid:
                written.append(outcome)
            elif not outcome.invalid:
                found[outcome.content].append(outcome)
        edits: dict[str, Labels] = {}
        changed: dict[int, str] = {}
        missing: list[int] = []
        matched: set[str] = set()
        same = 0
        for content, group in found.items():
            places = self._places[content]
            for outcome, place in _paired(group, places, self._differences):
                differences = self._differences(outcome, place)
                matched.add(self._uid(place))
                if differences:
                    now = labels_of(self._record(place))
                    edits[self._uid(place)] = {name: outcome.labels[name] for name in differences}
                    parts = [f"{name} {now[name]!r} → {outcome.labels[name]!r}" for name in differences]
                    changed[outcome.number] = f"relabelled: {', '.join(parts)}"
                else:
                    same += 1
                group.remove(outcome)
            for outcome in group:  # more than are there: new if it says something else of the recording
                if twins or all(self._differences(outcome, place) for place in places):
                    missing.append(outcome.number)
                else:
                    same += 1
        dropped: set[str] = set()
        first: dict[tuple[str, str], str] = {}
        for outcome in written:
            if not twins and first.setdefault((outcome.content, repr(outcome.labels)), outcome.uid) != outcome.uid:
                dropped.add(outcome.uid)
                same += 1
            elif outcome.replaces and outcome.replaces not in matched | dropped:
                dropped.add(outcome.replaces)
                edits[outcome.uid] = self._edited_here(outcome)
                changed[outcome.number] = f"replaces {outcome.replaces}: the same motion, other pictures or rows"
        return Settled(
            edits={uid: fields for uid, fields in edits.items() if fields},
            dropped=frozenset(dropped),
            same=same,
            changed=tuple(f"episode {number} {changed[number]}" for number in sorted(changed)),
            missing=tuple(sorted(missing)),
        )

    def _differences(self, outcome: Outcome, place: int) -> list[str]:
        """The fields of which the source says neither what it said when it was imported nor what is said now."""
        said, now = labels_of(self._original(place)), labels_of(self._record(place))
        return [name for name, value in outcome.labels.items() if value not in (said[name], now[name])]

    def _edited_here(self, outcome: Outcome) -> Labels:
        """What a user says otherwise of the replaced episode than its source said and says."""
        assert self._dataset is not None
        place = int(np.flatnonzero(self._dataset.episodes.uids == outcome.replaces.encode())[0])
        said, now = labels_of(self._original(place)), labels_of(self._record(place))
        return {name: now[name] for name in said if now[name] != said[name] == outcome.labels[name]}

    def _record(self, place: int) -> EpisodeRecord:
        assert self._dataset is not None
        return self._dataset.episodes[place]

    def _original(self, place: int) -> EpisodeRecord:
        """As its segment says it, whatever versions say."""
        assert self._dataset is not None
        if self._uid(place) not in self._dataset.manifest.overrides:
            return self._record(place)
        index = self._dataset.episodes
        segment = self._dataset.manifest.segments[int(index.segments[place])]
        if segment not in self._segments:
            self._segments[segment] = Dataset.of_segment(self._dataset.storage, segment)
        return self._segments[segment].episodes[int(index.numbers[place])]

    def _uid(self, place: int) -> str:
        assert self._dataset is not None
        return str(self._dataset.episodes.uids[place].decode())


def _paired(
    outcomes: Sequence[Outcome], places: Sequence[int], differences: Callable[[Outcome, int], list[str]]
) -> list[tuple[Outcome, int]]:
    """Each episode with one that is there, as far as there are enough, those that differ least first."""
    options = [(len(differences(o, place)), n, place) for n, o in enumerate(outcomes) for place in places]
    pairs: dict[int, int] = {}
    for _, number, place in sorted(options):
        if number not in pairs and place not in pairs.values():
            pairs[number] = place
    return [(outcomes[number], place) for number, place in pairs.items()]
