"""Several engines that are the same policy: each slot has one of them, so an episode stays where it began."""

import asyncio
from collections.abc import Sequence

from vla.core.errors import ServeError
from vla.core.types import Observation
from vla.deploy.engines.batcher import Batcher
from vla.deploy.engines.engine import Engine
from vla.deploy.engines.work import Answer


class Replicas:
    """As a `Batcher`, of several batchers that share the slots."""

    def __init__(self, batchers: Sequence[Batcher]) -> None:
        assert batchers, "at least one"
        self._batchers = tuple(batchers)

    @property
    def engine(self) -> Engine:
        """One of them: they are the same."""
        return self._batchers[0].engine

    @property
    def version(self) -> int:
        """The oldest that answers."""
        return min(batcher.version for batcher in self._batchers)

    @property
    def waiting(self) -> int:
        """Requests that no replica has begun with."""
        return sum(batcher.waiting for batcher in self._batchers)

    @property
    def down(self) -> ServeError | None:
        """Why no request is answered now: all replicas are down."""
        down = [batcher.down for batcher in self._batchers]
        return down[0] if all(down) else None

    @property
    def broken(self) -> ServeError | None:
        """Why none will answer again."""
        broken = [batcher.broken for batcher in self._batchers]
        return broken[0] if all(broken) else None

    def submit(self, slot: int, observation: Observation | None, *, reset: bool) -> "asyncio.Future[Answer]":
        """Queue one request at the replica of its slot."""
        return self._batchers[slot % len(self._batchers)].submit(slot, observation, reset=reset)

    def exchange(self, engine: Engine) -> "asyncio.Future[None]":
        """A newer version is one engine; where several answer, they are begun anew together, with the server."""
        raise ServeError("replicas are not exchanged while they serve; start another server beside it")

    async def close(self, timeout_s: float) -> bool:
        """Close all of them; false if one did not return in time."""
        return all(await asyncio.gather(*(batcher.close(timeout_s) for batcher in self._batchers)))
