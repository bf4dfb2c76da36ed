"""Work shared out to spawned processes that report as they go: GL contexts and threads do not survive a fork."""

import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

Share = TypeVar("Share")
Result = TypeVar("Result")


def run_shares(
    function: Callable[[Share, Callable[[Any], None]], Result],
    shares: Sequence[Share],
    *,
    workers: int,
    on_report: Callable[[Any], None] | None = None,
) -> list[Future[Result]]:
    """Run ``function(share, report)`` for each share and return the finished futures, in the order of the shares.

    ``function`` and the shares are pickled. What it passes to ``report`` reaches ``on_report`` in this process. A share
    that raises does not stop the others.
    """
    context = multiprocessing.get_context("spawn")
    workers = min(workers, len(shares))
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(workers, context, initializer=_share_cores, initargs=(workers,)) as pool,
    ):
        reports = manager.Queue()
        futures = [pool.submit(function, share, reports.put) for share in shares]
        while True:
            done = all(future.done() for future in futures)
            try:
                while True:
                    report = reports.get(timeout=0.0 if done else 0.2)
                    if on_report:
                        on_report(report)
            except queue.Empty:
                if done:
                    return futures


def _share_cores(workers: int) -> None:
    """Threads of a process: its part of the cores, and one for software GL, which reads this when it starts."""
    threads = str(max(1, len(os.sched_getaffinity(0)) // workers))
    os.environ.setdefault("LP_NUM_THREADS", "1")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, threads)
