"""Work shared out to workers that report as they go: spawned processes, actors of a Ray cluster, or this process.

Processes are spawned, because GL contexts and threads do not survive a fork.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, NoReturn, TypeVar

from vla.core.machine.memory import collect_seldom
from vla.core.machine.ray_workers import run_on_ray
from vla.core.machine.spawned import Work, refuse_unguarded, run_in_workers

Share = TypeVar("Share")
Result = TypeVar("Result")
Report = Callable[[Any], None]
Engine = Literal["ray", "processes", "inline"]


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def run_shares(
    function: Callable[[Share, Report], Result],
    shares: Sequence[Share],
    *,
    workers: int,
    on_report: Report | None = None,
    engine: Engine = "processes",
    stop: Callable[[], bool] = lambda: False,
    silence_s: float | None = None,
    note: Callable[[str], object] = lambda text: None,
) -> list[Future[Result]]:
    """Run ``function(share, report)`` for each share and return the finished futures, in the order of the shares.

    ``function`` is pickled once for each worker, and may keep things from share to share; shares begin in their order.
    What it passes to ``report`` reaches ``on_report`` in this process. A share that raises does not stop the others,
    nor does a worker that dies (`WorkerDiedError`). Once ``stop()`` is true, shares that have not begun are cancelled.
    Ray uses the cluster's CPUs, whatever ``workers`` says. A worker that has reported nothing for ``silence_s`` is
    ended as if it had died; in this process `TimeoutError` is raised where it stands, if that is in the main thread and
    in Python. ``note`` hears in words of each death.
    """
    refuse_unguarded()
    if not shares:
        return []
    listen = on_report or (lambda report: None)
    work = Work(function, shares, min(workers, len(shares)), listen, stop, silence_s, note)
    return {"ray": run_on_ray, "processes": _run_in_processes, "inline": _run_here}[engine](work)


def _run_here(work: Work) -> list[Future[Any]]:
    """One share after the other."""
    futures: list[Future[Any]] = []
    for share in work.shares:
        future: Future[Any] = Future()
        futures.append(future)
        if work.stop():
            future.cancel()
            continue
        try:
            with _alarm(work) as report:
                future.set_result(work.function(share, report))
        except Exception as error:
            future.set_exception(error)
    return futures


@contextmanager
def _alarm(work: Work) -> Iterator[Report]:
    """Raise in what runs when it reports nothing for too long, again and again: it may take the first for its own."""
    if work.silence_s is None or threading.current_thread() is not threading.main_thread():
        yield work.on_report
        return
    seconds = work.silence_s

    def ring(number: int, frame: object) -> NoReturn:
        raise TimeoutError(f"no sign of life for {seconds:g} s")

    def report(value: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
        work.on_report(value)

    began_s = time.monotonic()
    left_s, every_s = signal.setitimer(signal.ITIMER_REAL, 0)
    earlier = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield report
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
        if left_s:  # somebody else's alarm: it rings when it would have, or at once where that is past
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, left_s - (time.monotonic() - began_s)), every_s)


def _run_in_processes(work: Work) -> list[Future[Any]]:
    return run_in_workers(work, partial(_begin_worker, work.workers))


def end_with_parent() -> None:
    """From now on this process ends when the one that started it does, also when that one is killed."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def _begin_worker(workers: int) -> None:
    """No worker outlives its pool. Threads: its part of the cores, and one for software GL, which reads this early."""
    end_with_parent()
    collect_seldom()
    threads = str(max(1, cores() // workers))
    os.environ.setdefault("LP_NUM_THREADS", "1")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, threads)
