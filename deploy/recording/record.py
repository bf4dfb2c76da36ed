"""What a policy was asked and answered, batch by batch, as it is kept for a replay.

A batch is kept as a whole: who shares an inference decides the last bits of its floats, and which draws are whose.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import ServeError
from vla.core.types import ActionChunk, Observation
from vla.deploy.engines.engine import Acted
from vla.deploy.recording.frames import FrameWriter

_WAITING_BYTES = 64 << 20
"""Images that may wait for the disk; a batch that comes then is not kept."""
_END_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One batch as it was kept."""

    number: int
    """Counts the batches of one time of serving; where one is missing, it could not be kept."""
    digest: str
    """Of the policy."""
    resets: tuple[int, ...]
    observations: Mapping[int, Observation]
    """By slot."""
    chunks: Mapping[int, ActionChunk]
    """By slot; none if the policy failed."""
    error: str
    died: bool

    def to_map(self) -> dict[str, Any]:
        """As `from_map` reads it."""
        return {
            "kind": "batch",
            "number": self.number,
            "digest": self.digest,
            "resets": list(self.resets),
            "slots": list(self.observations),
            "observations": [_observation_map(seen) for seen in self.observations.values()],
            "chunks": [_chunk_map(chunk) for chunk in self.chunks.values()],
            "error": self.error,
            "died": self.died,
        }

    @staticmethod
    def from_map(value: Mapping[str, Any]) -> "Kept":
        """`ServeError` for what is no batch."""
        try:
            slots = [int(slot) for slot in value["slots"]]
            seen = [Observation(**item) for item in value["observations"]]
            chunks = [
                ActionChunk(
                    actions=item["actions"],
                    time_ns=item["time_ns"],
                    signals=dict(item["signals"]),
                    clipped=tuple(item["clipped"]),
                )
                for item in value["chunks"]
            ]
            return Kept(
                number=int(value["number"]),
                digest=str(value["digest"]),
                resets=tuple(int(slot) for slot in value["resets"]),
                observations=dict(zip(slots, seen, strict=True)),
                chunks=dict(zip(slots, chunks, strict=True)) if chunks else {},
                error=str(value["error"]),
                died=bool(value["died"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ServeError(f"the record holds a batch that is none ({type(error).__name__}: {error})") from None


def _observation_map(seen: Observation) -> dict[str, Any]:
    return {
        "images": dict(seen.images),
        "state": seen.state,
        "instruction": seen.instruction,
        "time_ns": int(seen.time_ns),
        "committed": seen.committed,
        "speech": seen.speech,
    }


def _chunk_map(chunk: ActionChunk) -> dict[str, Any]:
    signals = {name: np.asarray(signal) for name, signal in chunk.signals.items()}
    return {"actions": chunk.actions, "time_ns": int(chunk.time_ns), "signals": signals, "clipped": list(chunk.clipped)}


class Recorder:
    """Keeps every batch of one policy in ``folder``, at most ``most_bytes``, on a thread of its own."""

    def __init__(self, folder: Path, *, policy: str, contract: Contract, slots: int, most_bytes: int) -> None:
        about: dict[str, Any] = {"kind": "policy", "policy": policy, "slots": slots, "contract": contract.to_json()}
        about["run"] = time.time_ns()  # one time of serving
        self._writer = FrameWriter(folder, most_bytes, lambda: about)
        self._folder, self._asked = folder, SimpleQueue[Kept | None]()
        self._lock, self._bytes, self._number = threading.Lock(), 0, 0
        self.lost = 0
        """Batches that could not be kept: they came faster than the disk takes them, or do not travel."""
        self._thread = threading.Thread(target=self._run, name="vla-record", daemon=True)
        self._thread.start()

    def __call__(self, acted: Acted) -> None:
        """Keep a batch; never waits."""
        self._number += 1
        seen = {slot: one for slot, one in enumerate(acted.observations) if one is not None}
        chunks = {} if acted.error else _chunks(acted.chunks, list(seen))
        if chunks is None or self._bytes > _WAITING_BYTES:
            self._lose("what the policy answered is no chunk" if chunks is None else "the disk is too slow")
            return
        kept = Kept(
            number=self._number,
            digest=acted.digest,
            resets=acted.resets,
            observations=seen,
            chunks=chunks,
            error=acted.error,
            died=acted.died,
        )
        with self._lock:
            self._bytes += _size(kept)
        self._asked.put(kept)

    async def close(self) -> None:
        """After what waits for the disk, within a moment."""
        self._asked.put(None)
        await asyncio.to_thread(self._thread.join, _END_S)

    def _run(self) -> None:
        while (kept := self._asked.get()) is not None:
            try:
                self._writer.append(kept.to_map())
            except (ServeError, OSError) as error:
                self._lose(str(error))
            with self._lock:
                self._bytes -= _size(kept)
        self._writer.close()

    def _lose(self, why: str) -> None:
        if not self.lost:
            _log.error("%s: a batch is not kept: %s", self._folder, why)
        self.lost += 1


def _chunks(given: Sequence[Any], slots: Sequence[int]) -> dict[int, ActionChunk] | None:
    try:
        found = {slot: given[slot] for slot in slots}
    except (TypeError, IndexError):
        return None
    return found if all(isinstance(chunk, ActionChunk) for chunk in found.values()) else None


def _size(kept: Kept) -> int:
    return sum(image.nbytes for seen in kept.observations.values() for image in seen.images.values())
