"""What is known of each episode beside its arrays: one record at a time for people, columns for a million of them."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, SupportsIndex, overload

import numpy as np
from jaxtyping import Int8, Int32, Int64

from vla.core.errors import DatasetError
from vla.core.files import NotPlainError, plain_name
from vla.core.sealed import DamageError, listed, parse_json, table, whole
from vla.core.types import Episode, Question
from vla.datasets.store.questions import check_row, question_of, row_of


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """One entry of ``episodes.json``."""

    uid: str
    """Stays the same when segments are packed or merged."""
    start: int
    """First step: within the segment on disk, within the dataset once it is open."""
    length: int
    """Steps."""
    instruction: str
    instruction_alternatives: tuple[str, ...]
    task: str
    success: bool | None
    seed: int
    split: str
    content_hash: str
    frames: Mapping[str, int] = field(default_factory=dict)
    """Frames of each camera that has a rate of its own."""
    sim_state: bool = False
    """Whether simulator states were recorded."""
    model: str = ""
    """Hash of the simulator model in the segment's ``models/``."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    questions: tuple[Question, ...] = ()
    """What can be asked of its moments; written as a list of [step, kind, text, answer]."""


EDITABLE = ("instruction", "instruction_alternatives", "task", "success", "split")
"""What a manifest may say differently than the segment does."""

NOTES = "notes"
"""Key of a provenance, of an episode or a segment, with sentences for people on what is not as the source had it."""


_EXTRA = ("frames", "sim_state", "model", "provenance", "questions")
"""Seldom set, and stored together."""
_COLUMNS = [f.name for f in dataclasses.fields(EpisodeRecord) if f.name not in ("start", *_EXTRA)]


def record_of(episode: Episode, *, uid: str, start: int, content: str, model: str = "") -> EpisodeRecord:
    """The record of an episode whose first step is ``start`` and whose `content_hash` is ``content``."""
    return EpisodeRecord(
        uid=uid,
        start=start,
        length=len(episode),
        instruction=episode.instruction,
        instruction_alternatives=tuple(episode.instruction_alternatives),
        task=episode.task,
        success=None if episode.success is None else bool(episode.success),
        seed=int(episode.seed),
        split=episode.split,
        content_hash=content,
        frames={camera: len(times) for camera, times in episode.image_time_ns.items()},
        sim_state=episode.sim_state is not None,
        model=model,
        provenance=dict(episode.provenance),
        questions=tuple(episode.questions),
    )


def encode_records(records: Sequence[EpisodeRecord]) -> bytes:
    """``episodes.json``: one list for each field, and ``extra`` for what few episodes have."""
    columns: dict[str, Any] = {name: [getattr(record, name) for record in records] for name in _COLUMNS}
    extra = {}
    for number, record in enumerate(records):
        known = {name: getattr(record, name) for name in _EXTRA if getattr(record, name)}
        if record.questions:
            known["questions"] = [row_of(question) for question in record.questions]
        if known:
            extra[str(number)] = known
    lines = [f'"{name}": {json.dumps(column, ensure_ascii=False, allow_nan=False)}' for name, column in columns.items()]
    lines.append(f'"extra": {json.dumps(extra, ensure_ascii=False, allow_nan=False)}')
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


class _Interned:
    """A column of few distinct values: the values, and a code for each episode."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self.codes: Any = []

    def extend(self, column: Sequence[Any]) -> None:
        numbers = self._numbers
        for value in column:
            code = numbers.get(value)
            if code is None:
                code = numbers[value] = len(self.values)
                self.values.append(value)
            self.codes.append(code)

    def __getitem__(self, number: int) -> Any:
        return self.values[self.codes[number]]

    def set(self, number: int, value: Any) -> None:
        """Change one entry of a finished column."""
        if value not in self._numbers:
            self._numbers[value] = len(self.values)
            self.values.append(value)
        self.codes[number] = self._numbers[value]


_INTERNED = ("instruction", "instruction_alternatives", "task", "split")


class EpisodeIndex(Sequence[EpisodeRecord]):
    """The records of a dataset as columns: about 150 bytes an episode. Reads like a list of `EpisodeRecord`."""

    def __init__(self) -> None:
        self.starts: Int64[np.ndarray, " episodes"]
        """First step in the dataset."""
        self.lengths: Int64[np.ndarray, " episodes"]
        self.segments: Int32[np.ndarray, " episodes"]
        """Position of the episode's segment in the manifest."""
        self.numbers: Int32[np.ndarray, " episodes"]
        """Number of the episode in its segment."""
        self.offsets: Int64[np.ndarray, " episodes"]
        """First step in the segment."""
        self.seeds: Int64[np.ndarray, " episodes"]
        self.success: Int8[np.ndarray, " episodes"]
        """1, 0, or -1 where nobody knows."""
        self.uids: np.ndarray
        self.hashes: np.ndarray
        self._interned = {name: _Interned() for name in _INTERNED}
        self._extra: dict[int, str] = {}

    @staticmethod
    def build(segments: Sequence[tuple[str, bytes]]) -> "EpisodeIndex":
        """From the (name for errors, ``episodes.json``) of each segment."""
        index = EpisodeIndex()
        columns: dict[str, list[Any]] = {"uid": [], "length": [], "seed": [], "success": [], "content_hash": []}
        sizes: list[int] = []
        before = 0
        for where, data in segments:
            value = _parse(data, where)
            for name, column in columns.items():
                column += value[name]
            for name, interned in index._interned.items():
                interned.extend([tuple(v) for v in value[name]] if name == "instruction_alternatives" else value[name])
            for number, extra in value["extra"].items():
                index._extra[before + int(number)] = json.dumps(extra, ensure_ascii=False)
            sizes.append(len(value["uid"]))
            before += sizes[-1]
        counts = np.array(sizes, np.int64)
        index.lengths = np.array(columns["length"], np.int64)
        index.segments = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        first = np.cumsum(counts) - counts
        index.numbers = (np.arange(len(index.lengths)) - np.repeat(first, counts)).astype(np.int32)
        ends = np.concatenate([[0], np.cumsum(index.lengths)])
        index.starts = ends[:-1]
        index.offsets = index.starts - np.repeat(ends[first], counts)
        index.seeds = np.array(columns["seed"], np.int64)
        index.success = np.array([-1 if s is None else int(s) for s in columns["success"]], np.int8)
        index.uids = np.array(columns["uid"], "S") if columns["uid"] else np.array([], "S1")
        index.hashes = np.array(columns["content_hash"], "S32")
        for interned in index._interned.values():
            interned.codes = np.array(interned.codes, np.int32)
        return index

    def column(self, name: str) -> tuple[list[Any], Int32[np.ndarray, " episodes"]]:
        """Distinct values of ``instruction``, ``instruction_alternatives``, ``task`` or ``split``, and their codes."""
        interned = self._interned[name]
        return interned.values, interned.codes

    def take(self, chosen: Int64[np.ndarray, " chosen"]) -> "EpisodeIndex":
        """Only these episodes, in this order; their steps follow each other anew."""
        index = EpisodeIndex()
        for name in ("lengths", "segments", "numbers", "offsets", "seeds", "success", "uids", "hashes"):
            setattr(index, name, getattr(self, name)[chosen])
        index.starts = np.cumsum(index.lengths) - index.lengths
        for name, interned in self._interned.items():
            mine = index._interned[name]
            mine.values, mine._numbers = interned.values, interned._numbers
            mine.codes = interned.codes[chosen]
        index._extra = {new: self._extra[int(old)] for new, old in enumerate(chosen) if int(old) in self._extra}
        return index

    def override(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Apply a manifest's {uid: {field: value}}; uids that are not there are left alone."""
        numbers = {uid.decode(): number for number, uid in enumerate(self.uids.tolist())} if changes else {}
        for uid, fields in changes.items():
            number = numbers.get(uid)
            if number is None:
                continue
            for name, value in fields.items():
                if name == "success":
                    self.success[number] = -1 if value is None else int(value)
                elif name in _INTERNED:
                    self._interned[name].set(number, tuple(value) if isinstance(value, list) else value)

    def extra(self, number: int) -> dict[str, Any]:
        """What few episodes have: ``frames``, ``sim_state``, ``model``, ``provenance``, ``questions``."""
        text = self._extra.get(number)
        found: dict[str, Any] = {} if text is None else json.loads(text)
        if questions := found.get("questions"):
            found["questions"] = tuple(map(question_of, questions))
        return found

    def questions(self) -> Iterator[tuple[int, tuple[Question, ...]]]:
        """The number of each episode of which something can be asked, and what."""
        for number, text in self._extra.items():
            if '"questions"' in text and (found := self.extra(number).get("questions")):
                yield number, found

    def notes(self) -> Iterator[tuple[int, list[str]]]:
        """The number of each episode of which an import had something to say, and what."""
        for number, text in self._extra.items():
            if f'"{NOTES}"' in text:  # parsing is slow, and few have notes
                yield number, [str(note) for note in self.extra(number).get("provenance", {}).get(NOTES, ())]

    def __len__(self) -> int:
        """The number of episodes."""
        return len(self.lengths)

    @overload
    def __getitem__(self, number: SupportsIndex) -> EpisodeRecord: ...
    @overload
    def __getitem__(self, number: slice) -> list[EpisodeRecord]: ...
    def __getitem__(self, number: SupportsIndex | slice) -> EpisodeRecord | list[EpisodeRecord]:
        """The record of one episode."""
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        i = range(len(self))[number]
        success = int(self.success[i])
        return EpisodeRecord(
            uid=self.uids[i].decode(),
            start=int(self.starts[i]),
            length=int(self.lengths[i]),
            success=None if success < 0 else bool(success),
            seed=int(self.seeds[i]),
            content_hash=self.hashes[i].decode(),
            **{name: self._interned[name][i] for name in _INTERNED},
            **self.extra(i),
        )

    def __iter__(self) -> Iterator[EpisodeRecord]:
        """All records in order."""
        return (self[i] for i in range(len(self)))


def check_label(name: str, value: object) -> None:
    """Raise `DamageError` unless ``value`` can be what is said of an episode under ``name``, one of `EDITABLE`."""
    if name == "success":
        fits = value is None or isinstance(value, bool)
    elif name == "instruction_alternatives":
        fits = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    else:
        fits = name in EDITABLE and isinstance(value, str)
    if not fits:
        raise DamageError(f"{name[:40]!r} of an episode cannot be {str(value)[:40]!r}")


_MOST = 2**63
"""What an int64 holds: of any number in a record, and of all steps together."""
_LONGEST = 200
"""Of a uid: the column is as wide as its longest."""
_KINDS: dict[str, set[type]] = {
    "uid": {str},
    "length": {int},
    "seed": {int},
    "content_hash": {str},
    "instruction": {str},
    "instruction_alternatives": {list},
    "task": {str},
    "split": {str},
    "success": {bool, type(None)},
}
_MODEL = re.compile(r"[0-9a-f]{1,64}")


def _parse(data: bytes, where: str) -> dict[str, Any]:
    """``episodes.json``, each column of its kind and all of equal length."""
    try:
        value = parse_json(data)
        _check_columns(value)
        _check_extra(value["extra"], len(value["uid"]))
    except (DamageError, NotPlainError) as error:
        raise DatasetError(f"{where}: {error}; episodes.json is damaged, run vla data repair") from None
    return value


def _check_columns(value: dict[str, Any]) -> None:
    if missing := [name for name in (*_COLUMNS, "extra") if name not in value]:
        raise DamageError(f"episodes lack {', '.join(missing)}")
    for name, kinds in _KINDS.items():
        column = value[name]
        if not isinstance(column, list) or not set(map(type, column)) <= kinds:
            raise DamageError(f"{name}: expected a list of {' or '.join(sorted(kind.__name__ for kind in kinds))}")
        if name in ("uid", "content_hash") and not all(one.isascii() and len(one) <= _LONGEST for one in column):
            raise DamageError(f"{name}: expected at most {_LONGEST} ASCII characters")
        if kinds == {int} and column and not -_MOST <= min(column) <= max(column) < _MOST:
            raise DamageError(f"{name}: a number is too large")
    lengths = {len(value[name]) for name in _COLUMNS}
    if len(lengths) != 1:
        raise DamageError(f"columns of different lengths {sorted(lengths)}")
    if min(value["length"], default=1) < 1 or sum(value["length"]) >= _MOST:
        raise DamageError("an episode without steps, or with more than can be")
    for alternatives in value["instruction_alternatives"]:
        check_label("instruction_alternatives", alternatives)


def _check_extra(extra: object, episodes: int) -> None:
    for number, known in table(extra, "extra").items():
        if not (number.isascii() and number.isdigit() and len(number) < 10 and int(number) < episodes):
            raise DamageError(f"extra: there is no episode {number[:40]!r}")
        if odd := table(known, "extra").keys() - set(_EXTRA):
            raise DamageError(f"extra: {sorted(odd)[0][:40]!r} is unknown")
        for camera, frames in table(known.get("frames", {}), "frames").items():
            plain_name(camera)
            whole(frames, f"frames of {camera}", least=1)
        if not isinstance(known.get("sim_state", False), bool):
            raise DamageError("sim_state: expected true or false")
        if not isinstance(model := known.get("model", ""), str) or (model and not _MODEL.fullmatch(model)):
            raise DamageError(f"model: {str(model)[:40]!r} is no hash of one")
        table(known.get("provenance", {}), "provenance")
        listed(known.get("questions", []), "questions", check_row)
