"""One of the policies of a server, under its name: what asks it, who has its places, and what clients are told."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from vla.core.contract import Contract
from vla.core.errors import ServeError
from vla.deploy.engines.batcher import Batcher
from vla.deploy.engines.engine import Acted, Engine
from vla.deploy.engines.replicas import Replicas
from vla.deploy.limits import Limits
from vla.deploy.requests import neutral_observation, write_metadata
from vla.deploy.serving.metrics import PolicyMetrics
from vla.deploy.serving.places import Places
from vla.deploy.wire import pack

_log = logging.getLogger(__name__)


@runtime_checkable
class Watcher(Protocol):
    """Hears of every batch of a policy, once it is answered."""

    def __call__(self, acted: Acted) -> None:
        """Must not wait."""

    async def close(self) -> None:
        """The policy is not asked any more."""


class Served:
    """Made on the event loop that serves it; ``title`` is what clients are told that it is."""

    def __init__(
        self,
        name: str,
        engines: Sequence[Engine],
        *,
        title: str,
        limits: Limits,
        metrics: PolicyMetrics,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self.name, self._title, self._limits, self.metrics = name, title, limits, metrics
        self._watchers = watchers
        self.metadata: bytes | None = None
        """The first frame for each client, once the policy is warm."""
        self.places = Places(limits.clients, limits.idle_s)
        batchers = [self._batcher(engine) for engine in engines]
        self._engines = len(batchers)
        self.batcher = batchers[0] if len(batchers) == 1 else Replicas(batchers)
        metrics.queue.set_function(lambda: self.batcher.waiting)
        metrics.clients.set_function(lambda: self.places.taken)
        metrics.ready.set_function(lambda: not self.why_not)
        metrics.version.set_function(lambda: self.batcher.version)

    def _batcher(self, engine: Engine) -> Batcher:
        limits = self._limits
        return Batcher(
            engine,
            limits.clients,
            inference_s=limits.inference_s,
            start_s=limits.start_s,
            restarts=limits.restarts,
            batch=limits.batch,
            batch_s=limits.batch_s,
            queue=limits.queue,
            on_acted=self._acted,
            on_restart=self.metrics.starts.inc,
        )

    @property
    def contract(self) -> Contract:
        """Of the policy that answers."""
        return self.batcher.engine.contract

    @property
    def why_not(self) -> str:
        """Why no request is answered now; empty if they are."""
        if self.metadata is None:
            return "warming up; try again soon"
        return "" if self.batcher.down is None else str(self.batcher.down)

    async def warm_up(self, stop: asyncio.Event) -> bool:
        """Run the policy once, in each replica, and publish its metadata; false if a stop came first."""
        slots = range(min(self._engines, self._limits.clients))
        neutral = neutral_observation(self.contract)
        answers = asyncio.gather(*(self.batcher.submit(slot, neutral, reset=True) for slot in slots))
        stopped = asyncio.create_task(stop.wait())
        waited: set[asyncio.Future[Any]] = {answers, stopped}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not answers.done():
            answers.cancel()
            return False
        try:
            chunk = answers.result()[0].chunk
        except ServeError as error:
            raise ServeError(f"the warm-up failed: {error}") from None
        assert chunk is not None, "a warm-up observation has an answer"
        for slot in slots:
            self.batcher.submit(slot, None, reset=True)
        self._publish(len(chunk.actions))
        return True

    async def exchange(self, engine: Engine, horizon: int) -> None:
        """From the next batch on ``engine`` answers, which is warm and whose chunks have ``horizon`` steps."""
        if self.batcher.broken is not None:
            raise self.batcher.broken
        await self.batcher.exchange(engine)
        self._publish(horizon)

    async def close(self) -> None:
        """Wait a moment for the inference in flight."""
        if not await self.batcher.close(timeout_s=self._limits.stop_s):
            _log.error("the policy did not return within %g s; leaving it behind", self._limits.stop_s)
        for watcher in self._watchers:
            await watcher.close()

    def _publish(self, horizon: int) -> None:
        self.metadata = pack(
            write_metadata(
                self.contract,
                policy=self._title,
                action_horizon=horizon,
                places=self._limits.clients,
                version=self.batcher.version,
                digest=self.batcher.engine.digest,
            )
        )

    def _acted(self, acted: Acted) -> None:
        self.metrics.acted(acted)
        for watch in self._watchers:
            watch(acted)
