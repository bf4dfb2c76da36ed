"""One thread that owns a policy: requests that wait at the same time share one ``act`` call."""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from vla.core.errors import ServeError, VlaError
from vla.core.fit import check_chunk
from vla.core.types import ActionChunk, Observation, Policy

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the policy said to one request; no chunk if the request was a reset alone."""

    chunk: ActionChunk | None
    infer_ms: float
    """Duration of the ``act`` call that this answer shared with `batch_size` requests."""
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class _Work:
    slot: int
    observation: Observation | None
    reset: bool
    answer: "Future[Answer]" = field(default_factory=Future)


class Batcher:
    """Runs a policy with a fixed number of slots on one worker thread, so that no event loop ever waits for it.

    All failures reach the caller as a `ServeError` of one line in the future; the log has the traceback.
    """

    def __init__(self, policy: Policy, slots: int) -> None:
        self._policy = policy
        self._slots = slots
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        # A daemon, so that a policy that hangs cannot keep the process alive after `close`.
        self._thread = threading.Thread(target=self._run, name="vla-policy", daemon=True)
        self._thread.start()

    def submit(self, slot: int, observation: Observation | None, *, reset: bool) -> "Future[Answer]":
        """Queue one request; a slot may have only one in flight."""
        assert 0 <= slot < self._slots, f"slot {slot} of {self._slots}"
        work = _Work(slot=slot, observation=observation, reset=reset)
        self._queue.put(work)
        return work.answer

    def close(self, timeout_s: float) -> bool:
        """Stop after the requests that wait; false if the policy did not return in time."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        open_ = True
        while open_:
            waiting = [self._queue.get()]
            while not self._queue.empty():  # this thread is the only reader
                waiting.append(self._queue.get())
            open_ = None not in waiting
            batch = [work for work in waiting if work is not None and work.answer.set_running_or_notify_cancel()]
            self._serve([work for work in batch if self._reset(work)])

    def _reset(self, work: _Work) -> bool:
        """Reset the slot if asked to; false if this settled the request."""
        try:
            if work.reset:
                self._policy.reset(work.slot)
        except BaseException as error:  # also SystemExit: a dead worker would leave every client waiting
            work.answer.set_exception(_failure("reset", error))
            return False
        if work.observation is None:
            work.answer.set_result(Answer(chunk=None, infer_ms=0.0, batch_size=0))
            return False
        return True

    def _serve(self, batch: list[_Work]) -> None:
        if not batch:
            return
        observations: list[Observation | None] = [None] * self._slots
        for work in batch:
            assert observations[work.slot] is None, f"slot {work.slot} has two requests in flight"
            observations[work.slot] = work.observation
        start = time.perf_counter()
        try:
            chunks = self._policy.act(observations)
        except BaseException as error:  # see _reset
            if isinstance(error, VlaError) and len(batch) > 1:
                # What one client sent was refused, such as a sentence that is too long: the others are answered.
                for work in batch:
                    self._serve([work])
                return
            for work in batch:
                work.answer.set_exception(_failure("act", error))
            return
        infer_ms = (time.perf_counter() - start) * 1e3
        for work in batch:
            try:
                chunk = self._checked(chunks, work.slot)
            except Exception as error:  # not only ServeError: what the policy returned may be anything
                work.answer.set_exception(_failure("act", error))
            else:
                work.answer.set_result(Answer(chunk=chunk, infer_ms=infer_ms, batch_size=len(batch)))

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
        _log.error("%s", error)
        return ServeError(str(error))
    _log.error("the policy failed in %s", doing, exc_info=error)
    return ServeError(f"the policy failed in {doing} with {type(error).__name__}; the server's log has the details")
