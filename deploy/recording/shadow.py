"""A second policy is asked what the first one was, and how far apart their answers are is counted.

It has an engine and a batcher of its own, hears of a request when the first has answered it, and never delays it: what
comes while its slot is still busy is dropped, and counted.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from prometheus_client import CollectorRegistry, Gauge

from vla.core.contract import differences
from vla.core.errors import ServeError
from vla.core.types import ActionChunk
from vla.deploy.engines.batcher import Batcher
from vla.deploy.engines.engine import Acted, Engine
from vla.deploy.engines.work import Answer
from vla.deploy.limits import Limits

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Apart:
    """How far apart two policies are in one dimension of the action, in its unit."""

    name: str
    unit: str
    largest: float
    mean: float


class Distances:
    """Largest and mean distance in each dimension, over all steps that two chunks have in common."""

    def __init__(self, dimensions: int) -> None:
        self.largest = np.zeros(dimensions)
        self._sum, self._steps = np.zeros(dimensions), 0

    def add(self, a: Float32[np.ndarray, "h d"], b: Float32[np.ndarray, "k d"]) -> None:
        """One pair of chunks, which may have different horizons."""
        steps = min(len(a), len(b))
        apart = np.abs(a[:steps].astype(np.float64) - b[:steps])
        self.largest = np.maximum(self.largest, apart.max(axis=0))
        self._sum, self._steps = self._sum + apart.sum(axis=0), self._steps + steps

    @property
    def mean(self) -> np.ndarray:
        """Float64 (d,)."""
        return self._sum / max(1, self._steps)


class Shadow:
    """Made on the event loop that serves the first policy; closes ``engine`` when it is closed."""

    def __init__(self, engine: Engine, policy: str, limits: Limits, registry: CollectorRegistry) -> None:
        self._dimensions = engine.contract.action
        self._distances = Distances(len(self._dimensions))
        self._busy: set[int] = set()
        self._episodes: set[int] = set()  # slots that began one in a request that was dropped
        self.answers = self.dropped = self.failed = 0
        self._batcher = Batcher(
            engine,
            limits.clients,
            inference_s=limits.inference_s,
            start_s=limits.start_s,
            restarts=limits.restarts,
            batch=limits.batch,
        )
        self._stop_s = limits.stop_s
        self._tell(policy, registry)

    def __call__(self, acted: Acted) -> None:
        """Ask the second policy the same."""
        if acted.error:
            return
        for slot, (seen, chunk) in enumerate(zip(acted.observations, acted.chunks, strict=True)):
            if seen is None or chunk is None:
                continue
            reset = slot in acted.resets or slot in self._episodes
            if slot in self._busy or self._batcher.down is not None:
                self.dropped += 1
                self._episodes |= {slot} if reset else set()
                continue
            self._episodes.discard(slot)
            self._busy.add(slot)
            answer = self._batcher.submit(slot, seen, reset=reset)
            answer.add_done_callback(lambda done, slot=slot, chunk=chunk: self._compare(done, slot, chunk))  # type: ignore[misc]

    async def close(self) -> None:
        """Without waiting for more than what it is asked now."""
        await self._batcher.close(self._stop_s)

    def report(self) -> Sequence[Apart]:
        """By dimension."""
        columns = zip(self._dimensions, self._distances.largest, self._distances.mean, strict=True)
        return [Apart(name=d.name, unit=d.unit, largest=float(most), mean=float(mean)) for d, most, mean in columns]

    def _compare(self, answer: "asyncio.Future[Answer]", slot: int, chunk: ActionChunk) -> None:
        self._busy.discard(slot)
        if answer.cancelled() or isinstance(answer.exception(), ServeError):
            self.failed += 1
            return
        theirs = answer.result().chunk
        assert theirs is not None, "an observation has an answer"
        self.answers += 1
        self._distances.add(chunk.actions, theirs.actions)

    def _tell(self, policy: str, registry: CollectorRegistry) -> None:
        names = ["policy"]
        counts = {
            "answers": ("Answers of the shadow that were compared.", lambda: self.answers),
            "dropped": ("Requests that the shadow was too slow for.", lambda: self.dropped),
            "failed": ("Requests that the shadow failed on.", lambda: self.failed),
        }
        for name, (said, count) in counts.items():
            _gauge(registry, f"vla_shadow_{name}", said, names).labels(policy).set_function(count)
        apart = _gauge(registry, "vla_shadow_difference", "How far apart the two are.", [*names, "dimension", "of"])
        for column, dimension in enumerate(self._dimensions):
            for of in ("largest", "mean"):
                value = lambda column=column, of=of: float(getattr(self._distances, of)[column])  # noqa: E731
                apart.labels(policy, dimension.name, of).set_function(value)


def require_comparable(engine: Engine, shadow: Engine) -> None:
    """`ServeError` unless both are of the same robot."""
    if lines := differences(engine.contract, shadow.contract):
        raise ServeError(f"the shadow is of another robot: {'; '.join(lines)}; choose one that fits")


def _gauge(registry: CollectorRegistry, name: str, said: str, labels: Sequence[str]) -> Gauge:
    return Gauge(name, said, labels, registry=registry)
