"""Spawned processes that are given one share of work after the other, and may die without taking the rest along."""

import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from vla.core.errors import VlaError
from vla.core.machine.stopping import left_to_parent

_GRACE_S = 2.0


class WorkerDiedError(VlaError):
    """The process that ran a share was killed, by a signal or by a fault in native code."""


@dataclass(frozen=True)
class Work:
    """What is to be done, in the words of `vla.core.processes.run_shares`."""

    function: Callable[[Any, Callable[[Any], None]], Any]
    shares: Sequence[Any]
    workers: int
    on_report: Callable[[Any], None]
    stop: Callable[[], bool]


class _Worker:
    """One process, the pipe to it, and the share that it is busy with."""

    def __init__(self, function: Callable[[Any, Any], Any], begin: Callable[[], None]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function, begin), daemon=True)
        with left_to_parent():
            self.process.start()
        theirs.close()  # or its end would never be seen
        self.busy: Future[Any] | None = None

    def give(self, share: Any, future: "Future[Any]") -> None:
        self.busy = future
        with suppress(BrokenPipeError):  # it died: reading from the pipe tells
            self.pipe.send(share)


def run_in_workers(work: Work, begin: Callable[[], None]) -> list["Future[Any]"]:
    """Each share in one of the processes; ``begin`` is called first in each. An error of ``on_report`` kills all."""
    futures: list[Future[Any]] = [Future() for _ in work.shares]
    waiting = deque(zip(work.shares, futures, strict=True))
    crew: list[_Worker] = []
    try:
        for _ in range(work.workers):
            crew.append(_Worker(work.function, begin))
            crew[-1].give(*waiting.popleft())
        while busy := [worker for worker in crew if worker.busy]:
            ready = set(wait([worker.pipe for worker in busy]))
            for worker in [worker for worker in busy if worker.pipe in ready and _listen(worker, work.on_report)]:
                if not waiting or work.stop():
                    continue
                if not worker.process.is_alive():
                    crew.remove(worker)
                    worker = _Worker(work.function, begin)
                    crew.append(worker)
                worker.give(*waiting.popleft())
        for _, future in waiting:
            future.cancel()
        return futures
    finally:
        _end(crew)


def _end(crew: Sequence[_Worker]) -> None:
    """A worker that reports finds its pipe closed, and its share unwinds; what takes too long is killed."""
    for worker in crew:
        worker.pipe.close()
    deadline = time.monotonic() + _GRACE_S
    for worker in crew:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()
        worker.process.join()


def _listen(worker: _Worker, on_report: Callable[[Any], None]) -> bool:
    """Take one message of a busy worker; whether it is free now, or dead."""
    assert worker.busy is not None
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join(5)
        code = worker.process.exitcode or 0
        what = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        worker.busy.set_exception(WorkerDiedError(f"a worker process died ({what})"))
        worker.busy = None
        return True
    if kind == "report":
        on_report(value)
        return False
    if kind == "done":
        worker.busy.set_result(value)
    else:
        worker.busy.set_exception(value)
    worker.busy = None
    return True


def _serve(pipe: Connection, function: Callable[[Any, Any], Any], begin: Callable[[], None]) -> None:
    """In the worker: shares in, reports and one result for each out, until the other end closes."""
    begin()
    lock = threading.Lock()

    def send(kind: str, value: Any) -> None:
        with lock:
            pipe.send((kind, value))

    with suppress(EOFError, BrokenPipeError):
        while True:
            share = pipe.recv()
            try:
                result = function(share, lambda value: send("report", value))
            except Exception as error:
                send("raised", _sendable(error))
            else:
                send("done", result)


def _sendable(error: Exception) -> Exception:
    """The error itself, or what it says where it does not survive being sent."""
    from multiprocessing.reduction import ForkingPickler

    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
