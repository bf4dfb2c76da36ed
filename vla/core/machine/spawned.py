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
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

from vla.core.errors import VlaError
from vla.core.machine.memory import machine_bytes, memory_kills, resident_bytes
from vla.core.machine.stopping import left_to_parent

_GRACE_S = 2.0
_LOOK_S = 1.0
"""How often it is looked whether those that say nothing are still there."""
_START_S = 60.0
"""What a worker may take until it says the first thing, however impatient one is: it imports a good deal."""
_STILLBORN = 2
"""Deaths in a row of workers that never took any work, after which no other is begun."""
_UNGUARDED = 86
"""What a worker exits with when the script that it imports begins workers of its own."""


class WorkerDiedError(VlaError):
    """The process that ran a share was killed: by a signal, by a fault in native code, or since it gave no sign."""


@dataclass(frozen=True)
class Work:
    """What is to be done, in the words of `vla.core.machine.processes.run_shares`."""

    function: Callable[[Any, Callable[[Any], None]], Any]
    shares: Sequence[Any]
    workers: int
    on_report: Callable[[Any], None]
    stop: Callable[[], bool]
    silence_s: float | None = None
    note: Callable[[str], object] = lambda text: None

    def silent(self, heard: float, started: bool = True) -> str | None:
        """What to say of a worker that was last heard of at ``heard`` (monotonic), if that is too long ago."""
        limit_s = self.silence_s if started or self.silence_s is None else max(self.silence_s, _START_S)
        if limit_s is None or time.monotonic() - heard < limit_s:
            return None
        return f"gave no sign of life for {limit_s:g} s and was ended"


def refuse_unguarded() -> None:
    """End this process if it only imports the script that began it: what it would begin, would begin others."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(_UNGUARDED)


def spawn(target: Callable[..., None], *args: Any) -> tuple[SpawnProcess, Connection]:
    """Begin ``target(pipe, *args)`` in a daemon of its own, with the other end of its pipe; signals stay with us."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *args), daemon=True)
    with left_to_parent():
        process.start()
    theirs.close()  # or its end would never be seen
    return process, ours


class _Worker:
    """One process, the pipe to it, and the share that it is busy with."""

    def __init__(self, function: bytes, begin: Callable[[], None]) -> None:
        self._kills, self._resident = memory_kills(), 0
        self.process, self.pipe = spawn(_serve, function, begin)
        self.ready = False
        """Whether it has ever said that it takes work."""
        self.started = False
        """Whether it has ever reported anything of a share."""
        self.share: Any = None
        self.busy: Future[Any] | None = None
        self.heard = time.monotonic()

    def give(self, share: Any, future: "Future[Any]") -> None:
        self.share, self.busy, self.heard = share, future, time.monotonic()
        if self.ready:
            with suppress(BrokenPipeError):  # it died: reading from the pipe tells
                self.pipe.send(share)

    def listen(self, on_report: Callable[[Any], None]) -> bool:
        """Take one message; whether there was one, or the pipe has ended."""
        try:
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            return False
        assert self.busy is not None
        self.heard = time.monotonic()
        if kind == "ready":
            self.ready = True
            self.give(self.share, self.busy)
        elif kind == "report":
            self.started = True
            on_report(value)
        elif kind == "unable":
            raise VlaError(
                f"a worker process cannot take its work: {type(value).__name__}: {value}; what it runs must be found "
                "by importing a module, not in a function or a script that has gone"
            )
        else:
            future, self.busy = self.busy, None
            future.set_result(value) if kind == "done" else future.set_exception(value)
        return True

    def look(self) -> None:
        """Remember how much memory it holds: nobody says it afterwards."""
        self._resident = resident_bytes(self.process.pid or 0)["rss"] or self._resident

    def end(self, how: str | None = None) -> str:
        """The process is over, or is to be: why, in words; ``how`` says it where that was decided here."""
        if how is not None:
            self.process.kill()
        self.process.join(_GRACE_S)
        if self.process.exitcode is None:
            how = how or "closed its pipe without an end"
            self.process.kill()
            self.process.join(_GRACE_S)
        self.pipe.close()
        if self.process.exitcode == _UNGUARDED:
            raise VlaError(
                "worker processes import the script that begins them, and this one begins workers when it is imported: "
                'put what it calls under  if __name__ == "__main__":'
            )
        return f"a worker process {how or self._death(self.process.exitcode or 0)}"

    def _death(self, code: int) -> str:
        if code >= 0:
            return f"died (exit code {code})"
        held = f", with {self._resident / 1e9:.1f} of {machine_bytes() / 1e9:.0f} GB in use" if self._resident else ""
        why, kills = "", memory_kills()
        if code == -signal.SIGKILL and kills is None:
            why = "; most often that is the kernel's when memory runs out: take fewer workers, or a smaller batch"
        elif code == -signal.SIGKILL and kills != self._kills:
            why = "; the kernel counts it among those killed for memory: take fewer workers, or a smaller batch"
        elif code == -signal.SIGKILL:
            why = "; not by this system's kernel for memory, which counts none: by a person, a container or a scheduler"
        return f"died (signal {signal.Signals(-code).name}{held}{why})"


def run_in_workers(work: Work, begin: Callable[[], None]) -> list["Future[Any]"]:
    """Each share in one of the processes; ``begin`` is called first in each. An error of ``on_report`` kills all."""
    function = _packed(work.function)
    futures: list[Future[Any]] = [Future() for _ in work.shares]
    waiting = deque(zip(work.shares, futures, strict=True))
    crew: list[_Worker] = []
    stillborn = 0
    try:
        for _ in range(work.workers):
            crew.append(_Worker(function, begin))
            crew[-1].give(*waiting.popleft())
        while busy := [worker for worker in crew if worker.busy]:
            ready = set(wait([worker.pipe for worker in busy], timeout=_LOOK_S))
            for worker in busy:
                death = _attend(worker, worker.pipe in ready, work)
                stillborn = 0 if worker.ready else stillborn + (death is not None)
                if death is not None:
                    crew.remove(worker)
                    _mourn(worker, death, stillborn, waiting, work)
                if not worker.busy and waiting and not work.stop():
                    if death is not None:
                        worker = _Worker(function, begin)
                        crew.append(worker)
                    worker.give(*waiting.popleft())
        for _, future in waiting:
            future.cancel()
        return futures
    finally:
        _end(crew)


def _attend(worker: _Worker, speaks: bool, work: Work) -> str | None:
    """Hear what a busy worker says, or see that it has died or must; why, if so."""
    worker.look()
    if speaks or worker.pipe.poll():
        return None if worker.listen(work.on_report) else worker.end()
    if not worker.process.is_alive() and not worker.pipe.poll():
        return worker.end()  # somebody holds its pipe open
    silent = work.silent(worker.heard, worker.started)
    return silent and worker.end(silent)


def _mourn(worker: _Worker, death: str, stillborn: int, waiting: "deque[tuple[Any, Future[Any]]]", work: Work) -> None:
    """A death costs the share that was being worked on; one that never was begun is given to another."""
    work.note(death)
    future, worker.busy = worker.busy, None
    assert future is not None
    if worker.ready:
        future.set_exception(WorkerDiedError(death))
    elif stillborn < _STILLBORN:
        waiting.appendleft((worker.share, future))
    else:
        raise WorkerDiedError(f"{death}, before it took any work, {stillborn} times in a row")


def _end(crew: Sequence[_Worker]) -> None:
    """A worker that reports finds its pipe closed, and its share unwinds; what takes too long is killed."""
    for worker in crew:
        worker.pipe.close()
    deadline = time.monotonic() + _GRACE_S
    for worker in crew:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()
        worker.process.join(_GRACE_S)  # one that the system itself holds on to is not waited for


def _serve(pipe: Connection, function: bytes, begin: Callable[[], None]) -> None:
    """In the worker: shares in, reports and one result for each out, until the other end closes."""
    begin()
    lock = threading.Lock()

    def send(kind: str, value: Any) -> None:
        with lock:
            pipe.send((kind, value))

    with suppress(EOFError, BrokenPipeError):
        try:
            work = ForkingPickler.loads(function)
        except Exception as error:
            send("unable", sendable(error))
            return
        send("ready", None)
        while True:
            share = pipe.recv()
            try:
                result = work(share, lambda value: send("report", value))
            except Exception as error:
                send("raised", sendable(error))
            else:
                send("done", result)


def _packed(function: Any) -> bytes:
    try:
        return bytes(ForkingPickler.dumps(function))
    except Exception as error:  # of whatever it holds
        raise VlaError(
            f"a worker process cannot be sent its work ({type(error).__name__}: {error}); give what a module can "
            "import by its name, or take one worker, which is this process"
        ) from error


def sendable(error: Exception) -> Exception:
    """The error itself, or what it says where it does not survive being sent."""
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
