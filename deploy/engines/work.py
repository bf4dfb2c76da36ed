"""A request on its way through a batcher, and what comes of it."""

import asyncio
import time
from dataclasses import dataclass, field

from vla.core.errors import ServeError
from vla.core.types import ActionChunk, Observation


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the policy said to one request; no chunk if the request was a reset alone."""

    chunk: ActionChunk | None
    infer_ms: float
    """Duration of the inference that this answer shared with `batch_size` requests."""
    queue_ms: float
    """How long the request waited for it."""
    batch_size: int
    version: int = 1
    """Which of those that have been asked in turn; the first is 1."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """One request that waits for a policy."""

    slot: int
    observation: Observation
    reset: bool
    answer: "asyncio.Future[Answer]"
    since: float = field(default_factory=time.perf_counter)

    def settle(self, result: Answer | ServeError) -> None:
        """Answer it, unless it was given up, or nobody waits for it any more."""
        if self.answer.done():
            return
        if isinstance(result, ServeError):
            self.answer.set_exception(result)
            self.answer.exception()  # nobody may be there to take it
        else:
            self.answer.set_result(result)
