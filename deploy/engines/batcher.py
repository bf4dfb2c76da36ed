"""One thread that owns a policy: requests that wait at the same time share one ``act`` call.

A policy that takes too long is given up: its requests are answered with an error, new ones are refused at once, and it
is begun anew if it can be. What cannot be ended, such as a thread, is waited for once more as long, and then is broken.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from vla.core.errors import ServeError, VlaError
from vla.core.fit import check_chunk
from vla.core.types import ActionChunk, Observation, Policy
from vla.deploy.requests import neutral_observation

_log = logging.getLogger(__name__)
_OF_LATE_S = 1.0


class UnavailableError(ServeError):
    """The policy cannot be asked now."""


class OverdueError(UnavailableError):
    """The policy did not answer in time."""


class PolicyFailedError(ServeError):
    """The policy raised what was not written for users, or answered what is no answer."""


class PolicyDiedError(UnavailableError):
    """The policy is gone, and must be begun anew."""


@runtime_checkable
class RestartablePolicy(Protocol):
    """A policy that can be ended while it acts, from another thread, and begun anew."""

    def kill(self) -> None:
        """End it: `act` raises `PolicyDiedError`."""

    def restart(self) -> None:
        """Begin it anew, with nothing known of any slot."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the policy said to one request; no chunk if the request was a reset alone."""

    chunk: ActionChunk | None
    infer_ms: float
    """Duration of the ``act`` call that this answer shared with `batch_size` requests."""
    queue_ms: float
    """How long the request waited for that call."""
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class _Work:
    slot: int
    observation: Observation | None
    reset: bool
    answer: "Future[Answer]" = field(default_factory=Future)
    since: float = field(default_factory=time.perf_counter)

    def settle(self, result: Answer | ServeError) -> None:
        with suppress(InvalidStateError):  # it was given up meanwhile
            if isinstance(result, ServeError):
                self.answer.set_exception(result)
            else:
                self.answer.set_result(result)


class Batcher:
    """Runs a policy with a fixed number of slots on one worker thread, so that no event loop ever waits for it.

    All failures reach the caller as a `ServeError` of one line in the future; the log has the traceback. `watch` keeps
    the deadline, and is to be called now and then.
    """

    def __init__(
        self,
        policy: Policy,
        slots: int,
        *,
        inference_s: float = 10.0,
        start_s: float = 600.0,
        restarts: int = 3,
        batch: int = 64,
        batch_s: float = 0.0,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self._policy, self._slots = policy, slots
        self._inference_s, self._start_s, self._restarts = inference_s, start_s, restarts
        self._most, self._batch_s = batch, batch_s
        self._on_batch, self._on_restart = on_batch, on_restart
        self._changed = threading.Condition()
        self._waiting: dict[int, _Work] = {}
        self._asked_at: dict[int, float] = {}
        self._acting: list[_Work] = []
        self._allowed_s = inference_s
        self._until: float | None = None  # when the policy must have answered; None while it is not asked
        self._forgotten: set[int] = set()  # slots that the policy has not heard of since it was begun anew
        self._warm = False
        self._down: UnavailableError | None = None
        self._closed = False
        self.broken: ServeError | None = None
        """Why it will not answer again."""
        # A daemon, so that a policy that hangs cannot keep the process alive after `close`.
        self._thread = threading.Thread(target=self._run, name="vla-policy", daemon=True)
        self._thread.start()

    @property
    def down(self) -> ServeError | None:
        """Why requests are refused now, if they are."""
        return self.broken or self._down

    @property
    def waiting(self) -> int:
        """Requests that the policy has not begun with."""
        return len(self._waiting)

    def submit(self, slot: int, observation: Observation | None, *, reset: bool) -> "Future[Answer]":
        """Queue one request; a slot may have only one in flight. `ServeError` while the policy cannot be asked."""
        assert 0 <= slot < self._slots, f"slot {slot} of {self._slots}"
        work = _Work(slot=slot, observation=observation, reset=reset)
        with self._changed:
            if self.down is not None:
                raise self.down
            earlier = self._waiting.get(slot)
            assert earlier is None or earlier.answer.cancelled(), f"slot {slot} has two requests in flight"
            self._waiting[slot] = work
            self._asked_at[slot] = time.monotonic()
            self._changed.notify()
        return work.answer

    def watch(self) -> None:
        """Give the policy up if it has taken too long."""
        with self._changed:
            if self._until is None or time.monotonic() < self._until:
                return
            overdue = OverdueError(f"the policy did not answer within {self._allowed_s:g} s; try again soon")
            restartable = isinstance(self._policy, RestartablePolicy)
            if self._down is not None and not restartable:
                self.broken = ServeError("the policy hangs, and cannot be ended; start the server anew")
            if self._down is None:
                _log.error("%s", overdue)
            self._down, self._until = overdue, time.monotonic() + self._inference_s
            self._give_up(overdue)
        if isinstance(self._policy, RestartablePolicy):
            self._policy.kill()

    def close(self, timeout_s: float) -> bool:
        """Stop after the requests that wait; false if the policy did not return in time."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while batch := self._next():
            self._serve(batch)
            with self._changed:
                self._acting, self._until = [], None
                gone = isinstance(self._down, PolicyDiedError)
                if not gone:
                    self._down = None  # it came back, however late
            if gone and not self._restart():
                return

    def _next(self) -> list[_Work]:
        """Those that have waited longest; nothing once the batcher is closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._waiting and not self._closed:
                    self._changed.wait_for(self._all_there, self._batch_s)
                first = sorted(list(self._waiting)[: self._most])
                works = [self._waiting.pop(slot) for slot in first]
                self._acting = [work for work in works if work.answer.set_running_or_notify_cancel()]
                if self._acting:
                    self._allow(self._inference_s if self._warm else self._start_s)
                if self._acting or self._closed:
                    return self._acting

    def _all_there(self) -> bool:
        """Whether nobody who has asked of late is missing; alone, a client waits for nobody."""
        of_late = time.monotonic() - _OF_LATE_S
        wanted = sum(asked > of_late for asked in self._asked_at.values())
        return self._closed or len(self._waiting) >= min(wanted, self._most)

    def _allow(self, seconds: float) -> None:
        self._allowed_s, self._until = seconds, time.monotonic() + seconds

    def _give_up(self, why: ServeError) -> None:
        for work in [*self._acting, *self._waiting.values()]:
            work.settle(why)
        self._waiting.clear()

    def _serve(self, batch: list[_Work]) -> None:
        batch = [work for work in batch if self._reset(work)]
        if not batch or self._down is not None:
            return
        observations: list[Observation | None] = [None] * self._slots
        for work in batch:
            observations[work.slot] = work.observation
        start = time.perf_counter()
        try:
            chunks = self._policy.act(observations)
        except BaseException as error:  # also SystemExit: a dead worker would leave every client waiting
            self._failed(batch, error)
            return
        seconds = time.perf_counter() - start
        self._warm = True
        self._on_batch(len(batch), seconds)
        for work in batch:
            try:
                chunk = self._checked(chunks, work.slot)
            except Exception as error:  # not only ServeError: what the policy returned may be anything
                work.settle(_failure("act", error))
            else:
                waited_ms, size = (start - work.since) * 1e3, len(batch)
                work.settle(Answer(chunk=chunk, infer_ms=seconds * 1e3, queue_ms=waited_ms, batch_size=size))

    def _reset(self, work: _Work) -> bool:
        """Reset the slot if asked to, or if the policy has forgotten it; false if this settled the request."""
        try:
            if work.reset or work.slot in self._forgotten:
                self._policy.reset(work.slot)
                self._forgotten.discard(work.slot)
        except BaseException as error:  # see _serve
            work.settle(_failure("reset", error))
            return False
        if work.observation is None:
            work.settle(Answer(chunk=None, infer_ms=0.0, queue_ms=0.0, batch_size=0))
            return False
        return True

    def _failed(self, batch: list[_Work], error: BaseException) -> None:
        if isinstance(error, PolicyDiedError):
            _log.error("%s", error)
            with self._changed:
                self._down = PolicyDiedError("the policy is being started anew; try again soon")
                self._give_up(self._down)
        elif isinstance(error, VlaError) and not isinstance(error, PolicyFailedError) and len(batch) > 1:
            # What one client sent was refused, such as a sentence that is too long: the others are answered.
            for work in batch:
                self._allow(self._inference_s)
                self._serve([work])
        else:
            for work in batch:
                work.settle(_failure("act", error))

    def _restart(self) -> bool:
        """Begin the policy anew and let it answer once; false if it cannot, or the batcher is closed meanwhile."""
        assert isinstance(self._policy, RestartablePolicy), "others do not die"
        why: BaseException | None = None
        for _ in range(self._restarts):
            if self._closed:
                return False
            self._on_restart()
            try:
                self._policy.restart()
                self._forgotten = set(range(self._slots))
                self._allow(self._start_s)
                self._policy.reset(0)
                observations = [neutral_observation(self._policy.contract), *[None] * (self._slots - 1)]
                self._policy.act(observations)
            except Exception as error:
                why = error
                _log.error("the policy could not be started anew: %s", error)
            else:
                with self._changed:
                    self._until = self._down = None
                return True
        self.broken = ServeError(f"the policy could not be started anew ({why}); the server's log has the details")
        return False

    def _checked(self, chunks: Sequence[ActionChunk | None], slot: int) -> ActionChunk:
        if len(chunks) != self._slots:
            raise ServeError(f"the policy answered {len(chunks)} of {self._slots} slots; it must answer all, in order")
        chunk = check_chunk(chunks[slot], self._policy.contract, who="the policy's answer")
        for name, signal in chunk.signals.items():
            if signal.ndim != 1:
                raise ServeError(f"the policy answered signal {name} {signal.shape}; expected one dimension")
        return chunk


def _failure(doing: str, error: BaseException) -> ServeError:
    if isinstance(error, VlaError):  # written for users; anything else may hold paths or data of the server
        _log.info("%s", error)
        return error if isinstance(error, ServeError) else ServeError(str(error))
    _log.error("the policy failed in %s", doing, exc_info=error)
    return PolicyFailedError(
        f"the policy failed in {doing} with {type(error).__name__}; the server's log has the details"
    )
