"""Requests that wait at the same time share one inference; all on the event loop, which never waits for the policy.

A policy that takes too long is given up: its requests are answered with an error, new ones are refused at once, and it
is begun anew if it can be. What cannot be ended, such as a thread, is waited for once more as long, and then is broken.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from vla.core.errors import ServeError, VlaError
from vla.core.fit import check_chunk
from vla.core.types import ActionChunk, Observation
from vla.deploy.engines.deadline import Deadline
from vla.deploy.engines.engine import (
    Acted,
    Chunks,
    Engine,
    OnActed,
    OverdueError,
    PolicyDiedError,
    PolicyFailedError,
    UnavailableError,
    ask,
    failure,
)
from vla.deploy.engines.returns import Returns
from vla.deploy.engines.work import Answer, Work
from vla.deploy.requests import neutral_observation

_log = logging.getLogger(__name__)
_PATIENCE = 0.25
"""Of the time of an inference: so long a request waits, at most, for those who would miss it by a moment."""


class Batcher:
    """Asks an engine for the requests of a fixed number of slots; made on the event loop that it serves.

    All failures reach the caller as a `ServeError` of one line in the future; the log has the traceback.
    """

    def __init__(
        self,
        engine: Engine,
        slots: int,
        *,
        inference_s: float = 10.0,
        start_s: float = 600.0,
        restarts: int = 3,
        batch: int = 64,
        batch_s: float = 0.0,
        queue: int = 256,
        on_acted: OnActed = lambda acted: None,
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine, self._digest, self._slots = engine, engine.digest, slots
        self._inference_s, self._start_s, self._restarts = inference_s, start_s, restarts
        self._most, self._batch_s, self._queue = batch, batch_s, queue
        self._on_acted, self._on_restart = on_acted, on_restart
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, Work] = {}
        self._returns = Returns()
        self._seconds = 0.0  # what the last inference took
        self._acting: list[Work] = []
        self._alone: deque[Work] = deque()  # those of a batch that was refused, who are asked one by one
        self._window: asyncio.TimerHandle | None = None
        self._deadline = Deadline(self._overdue)
        self._busy = False
        self._forgotten: set[int] = set()  # slots whose next request begins an episode, whatever it says
        self._warm = False
        self._down: UnavailableError | None = None
        self._closed: asyncio.Future[None] | None = None
        self._successor: tuple[Engine, asyncio.Future[None]] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.version = 1
        """Counts the versions of the policy that were asked."""
        self.broken: ServeError | None = None
        """Why it will not answer again."""

    @property
    def down(self) -> ServeError | None:
        """Why requests are refused now, if they are."""
        return self.broken or self._down

    @property
    def waiting(self) -> int:
        """Requests that the policy has not begun with."""
        return len(self._waiting)

    @property
    def engine(self) -> Engine:
        """Which is asked now."""
        return self._engine

    def submit(self, slot: int, observation: Observation | None, *, reset: bool) -> "asyncio.Future[Answer]":
        """Queue one request; a slot may have only one that waits. `ServeError` while the policy cannot be asked.

        A reset alone is answered at once: the policy hears of it with the next observation of its slot.
        """
        assert 0 <= slot < self._slots, f"slot {slot} of {self._slots}"
        if self.down is not None:
            raise type(self.down)(str(self.down))
        answer: asyncio.Future[Answer] = self._loop.create_future()
        if observation is None:
            self._forgotten.add(slot)
            answer.set_result(Answer(chunk=None, infer_ms=0.0, queue_ms=0.0, batch_size=0, version=self.version))
            return answer
        if len(self._waiting) >= self._queue:
            raise UnavailableError(f"{len(self._waiting)} requests wait for the policy already; try again soon")
        earlier = self._waiting.pop(slot, None)
        assert earlier is None or earlier.answer.done(), f"slot {slot} has two requests in flight"
        self._waiting[slot] = Work(slot=slot, observation=observation, reset=reset, answer=answer)
        self._returns.asked(slot, time.monotonic())
        self._consider()
        return answer

    def exchange(self, engine: Engine) -> "asyncio.Future[None]":
        """Ask ``engine``, which is warm, from the next batch on; no request is lost. Done when that is so."""
        assert self._successor is None, "one exchange after the other"
        done: asyncio.Future[None] = self._loop.create_future()
        self._successor = engine, done
        self._consider()
        return done

    async def close(self, timeout_s: float) -> bool:
        """Stop after the requests that wait, and close the engine; false if the policy did not return in time."""
        self._closed = self._loop.create_future()
        self._consider()
        done, _ = await asyncio.wait({self._closed}, timeout=timeout_s)
        self._deadline.stop()
        for engine in (self._engine, *(self._successor or ())[:1]):
            await asyncio.to_thread(engine.close)  # also ends a start that has only begun
        if not done:
            self._give_up(UnavailableError("the server stops"))
        if self._tasks:
            await asyncio.wait(self._tasks)
        return bool(done)

    def _consider(self) -> None:
        """Begin what there is to begin: the next batch, when all who are expected are there or the window is over."""
        if self._busy:
            return
        if self._successor is not None:
            self._take_over()
        if self._alone:
            self._begin([self._alone.popleft()])
        elif not self._waiting:
            if self._closed is not None and not self._closed.done():
                self._closed.set_result(None)
        elif not self._batch_s or self._closed is not None or self._all_there():
            self._next()
        elif self._window is None:
            self._window = self._loop.call_later(self._patience_s, self._next)

    @property
    def _patience_s(self) -> float:
        """What it may cost to share an inference: a part of one."""
        return min(self._batch_s, _PATIENCE * self._seconds)

    def _all_there(self) -> bool:
        """Whether nobody is missing who should be back in a moment; alone, a client waits for nobody."""
        if len(self._waiting) >= self._most:
            return True
        return not self._returns.soon(time.monotonic(), self._patience_s, self._waiting)

    def _next(self) -> None:
        """Those that have waited longest, unless nobody waits for their answers any more."""
        if self._window is not None:
            self._window.cancel()
            self._window = None
        if self._busy:
            return
        first = sorted(list(self._waiting)[: self._most])
        works = [self._waiting.pop(slot) for slot in first]
        self._begin([work for work in works if not work.answer.done()])

    def _begin(self, batch: list[Work]) -> None:
        if not batch:
            self._consider()
            return
        observations: list[Observation | None] = [None] * self._slots
        for work in batch:
            observations[work.slot] = work.observation
        resets = tuple(work.slot for work in batch if work.reset or work.slot in self._forgotten)
        self._forgotten.difference_update(resets)
        self._acting, self._busy, start = batch, True, time.perf_counter()
        self._deadline.start(self._inference_s if self._warm else self._start_s)

        def answered(answer: Chunks | VlaError) -> None:
            self._deadline.stop()
            seconds, now = time.perf_counter() - start, time.monotonic()
            self._seconds = seconds
            for work in batch:
                self._returns.answered(work.slot, now)
            if isinstance(answer, VlaError):
                self._forgotten.update(resets)
                self._failed(batch, answer)
            else:
                self._settle(batch, answer, start, seconds)
            refused = answer if isinstance(answer, VlaError) else None
            acted = Acted(
                digest=self._digest,
                resets=resets,
                observations=observations,
                chunks=() if isinstance(answer, VlaError) else answer,
                error=str(refused or ""),
                died=isinstance(refused, PolicyDiedError),
                seconds=seconds,
            )
            self._loop.call_soon(self._done, acted)  # once they are answered

        self._engine.act(observations, resets, answered)

    def _done(self, acted: Acted) -> None:
        """The policy is free, or must be begun anew."""
        self._acting = []
        if isinstance(self._down, PolicyDiedError) and self._successor is None:
            self._spawn(self._restart())
        else:
            self._busy = False
            if self.broken is None:
                self._down = None  # it came back, however late
            self._consider()
        self._on_acted(acted)

    def _settle(self, batch: list[Work], chunks: Chunks, start: float, seconds: float) -> None:
        self._warm = True
        for work in batch:
            try:
                chunk = self._checked(chunks, work.slot)
            except Exception as error:  # not only ServeError: what the policy returned may be anything
                work.settle(failure("act", error))
            else:
                work.settle(
                    Answer(
                        chunk=chunk,
                        infer_ms=seconds * 1e3,
                        queue_ms=(start - work.since) * 1e3,
                        batch_size=len(batch),
                        version=self.version,
                    )
                )

    def _failed(self, batch: list[Work], error: VlaError) -> None:
        if isinstance(error, PolicyDiedError):
            _log.error("%s", error)
            self._down = PolicyDiedError("the policy is being started anew; try again soon")
            self._give_up(self._down)
        elif not isinstance(error, PolicyFailedError) and len(batch) > 1 and self._down is None:
            # What one client sent was refused, such as a sentence that is too long: the others are answered.
            self._alone.extend(batch)
        else:
            for work in batch:
                work.settle(failure("act", error))

    def _checked(self, chunks: Chunks, slot: int) -> ActionChunk:
        if len(chunks) != self._slots:
            raise ServeError(f"the policy answered {len(chunks)} of {self._slots} slots; it must answer all, in order")
        chunk = check_chunk(chunks[slot], self._engine.contract, who="the policy's answer")
        for name, signal in chunk.signals.items():
            if signal.ndim != 1:
                raise ServeError(f"the policy answered signal {name} {signal.shape}; expected one dimension")
        return chunk

    def _overdue(self, allowed_s: float) -> None:
        """Give the policy up: it has taken too long."""
        overdue = OverdueError(f"the policy did not answer within {allowed_s:g} s; try again soon")
        first, ended = self._down is None, self._engine.kill()
        if first:
            _log.error("%s", overdue)
        elif not ended:
            self.broken = ServeError("the policy hangs, and cannot be ended; start the server anew")
        self._down = overdue
        self._give_up(overdue)
        self._deadline.start(self._inference_s)

    def _give_up(self, why: ServeError) -> None:
        for work in [*self._acting, *self._alone, *self._waiting.values()]:
            work.settle(why)
        self._waiting.clear()
        self._alone.clear()

    async def _restart(self) -> None:
        """Begin the policy anew and let it answer once, unless the batcher is closed meanwhile."""
        why: VlaError | None = None
        for _ in range(self._restarts):
            if self._closed is not None or self._successor is not None:
                break
            self._on_restart()
            try:
                await self._engine.restart()
                before, self._digest = self._digest, self._engine.digest
                self.version += self._digest != before
                self._forgotten = set(range(self._slots))
                self._deadline.start(self._start_s)
                neutral = neutral_observation(self._engine.contract)
                await ask(self._engine, [neutral, *[None] * (self._slots - 1)], (0,))
            except VlaError as error:
                why = error
                _log.error("the policy could not be started anew: %s", error)
            else:
                self._down, why = None, None
                break
            finally:
                self._deadline.stop()
        if why is not None and self._successor is None:
            said = f"the policy could not be started anew ({why}); the server's log has the details"
            self.broken = ServeError(said)
        self._busy = False
        self._consider()

    def _take_over(self) -> None:
        """Between two batches: the successor knows nothing of any slot, and the old one leaves."""
        assert self._successor is not None
        old, (self._engine, done), self._successor = self._engine, self._successor, None
        self._digest, self.version = self._engine.digest, self.version + 1
        self._forgotten, self._down = set(range(self._slots)), None
        self._spawn(asyncio.to_thread(old.close))
        if not done.done():
            done.set_result(None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
