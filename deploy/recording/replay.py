"""A record is answered again: the same batches in the same order, compared bit for bit."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import ServeError, VlaError
from vla.core.types import ActionChunk
from vla.deploy.engines.engine import Chunks, Engine, ask
from vla.deploy.recording.frames import read_frames
from vla.deploy.recording.record import Kept

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class About:
    """What a record says of the policy that answered."""

    policy: str
    slots: int
    contract: Contract


@dataclass(kw_only=True)
class Replayed:
    """How the answers compare."""

    answers: int = 0
    differing: int = 0
    """Of the answers, those that are not the same bits, although their episode was there from its beginning."""
    unknown: int = 0
    """Of the answers, those that differ and whose episode began before the record, or was cut by what is not kept."""
    lost: int = 0
    """Batches that were not kept."""
    first: int | None = None
    """The number of the first batch with an answer that differs."""
    largest: dict[str, float] = field(default_factory=dict)
    """By dimension of the action, how far apart answers are at most."""
    digests: set[str] = field(default_factory=set)
    """Of the policies that answered when it was recorded."""

    def said(self, policy: str, same: bool) -> str:
        """A line for people; ``same`` is whether the policy is one of those that answered then."""
        answers = f"{self.answers} answers of {policy}{'' if same else ', which is not the policy that answered then'}"
        if not self.differing:
            line = f"{answers}: all the same bits"
        else:
            most = ", ".join(f"{name} {apart:.3g}" for name, apart in self.largest.items() if apart)
            line = f"{answers}: {self.differing} differ, first in batch {self.first}; most: {most or 'not in actions'}"
        if self.unknown:
            line += f" ({self.unknown} differ whose episode is not there from its beginning, which says nothing)"
        return line + (f"; {self.lost} batches are not there" if self.lost else "")

    def differ(self, number: int, known: bool, kept: ActionChunk | None, now: ActionChunk | None, names: Any) -> None:
        """Count an answer that differs."""
        self.differing += known
        self.unknown += not known
        if known and self.first is None:
            self.first = number
        if kept is None or now is None or kept.actions.shape != now.actions.shape:
            return
        for name, most in zip(names, np.abs(kept.actions - now.actions).max(axis=0), strict=True):
            self.largest[name] = max(self.largest.get(name, 0.0), float(most))


def records_in(folder: Path) -> dict[str, Path]:
    """The records below a folder that a server kept them in, by the names of its policies; or it is one itself."""
    if any(folder.glob("*.frames")):
        return {folder.name: folder}
    found = {place.name: place for place in sorted(folder.glob("*")) if any(place.glob("*.frames"))}
    if not found:
        raise ServeError(f"{folder} holds no record; vla serve --record writes one")
    return found


def read_about(folder: Path) -> About:
    """What the newest part of a record says of its policy."""
    found = None
    for value in read_frames(folder):
        if isinstance(value, dict) and value.get("kind") == "policy":
            found = value
    try:
        assert found is not None, "every file begins with it"
        contract = Contract.from_json(found["contract"], where=str(folder))
        return About(policy=str(found["policy"]), slots=int(found["slots"]), contract=contract)
    except (KeyError, TypeError, ValueError) as error:
        raise ServeError(f"{folder} does not say of which policy it is ({error})") from None


def read_batches(folder: Path) -> Iterator[Kept | None]:
    """Every batch that is there; None where another time of serving begins."""
    run = None
    for value in read_frames(folder):
        kind = value.get("kind") if isinstance(value, dict) else None
        if kind == "policy":
            if run not in (None, value.get("run")):
                yield None
            run = value.get("run")
        elif kind == "batch":
            yield Kept.from_map(value)
        else:
            raise ServeError(f"{folder} holds what no version of vla writes")


async def replay(folder: Path, engine: Engine, slots: int) -> Replayed:
    """Ask ``engine`` for every batch of the record again."""
    found, known, number = Replayed(), set[int](), None
    names = [dimension.name for dimension in engine.contract.action]
    for kept in read_batches(folder):
        if kept is None:
            known, number = set(), None
            continue
        missing = kept.number - number - 1 if number is not None else 0
        if missing:
            found.lost += missing
            known.clear()
        number = kept.number
        found.digests.add(kept.digest)
        known |= set(kept.resets)
        if kept.died:
            known.clear()  # and it is not asked again what it died of
            continue
        await _again(kept, engine, slots, known, found, names)
    return found


async def _again(
    kept: Kept, engine: Engine, slots: int, known: set[int], found: Replayed, names: Sequence[str]
) -> None:
    chunks: Chunks
    asked = [kept.observations.get(slot) for slot in range(slots)]
    try:
        chunks = await ask(engine, asked, kept.resets)
    except VlaError as error:
        chunks = [None] * slots
        if not kept.error:
            _log.warning("batch %d is refused now: %s", kept.number, error)
    for slot in kept.observations:
        before, now = kept.chunks.get(slot), chunks[slot]
        found.answers += 1
        if not same_bits(before, now):
            found.differ(kept.number, slot in known, before, now, names)


def same_bits(a: ActionChunk | None, b: ActionChunk | None) -> bool:
    """Whether two chunks are the same, or neither is there."""
    if a is None or b is None:
        return a is b
    pairs: list[tuple[Any, Any]] = [(a.actions, b.actions)]
    if a.signals.keys() != b.signals.keys() or a.time_ns != b.time_ns or tuple(a.clipped) != tuple(b.clipped):
        return False
    pairs += [(a.signals[name], b.signals[name]) for name in a.signals]
    return all(x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in pairs)
