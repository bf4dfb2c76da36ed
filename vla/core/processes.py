"""Work shared out to workers that report as they go: spawned processes, tasks of a Ray cluster, or this process.

Processes are spawned, because GL contexts and threads do not survive a fork.
"""

import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.managers import SyncManager
from typing import Any, Literal, TypeVar

Share = TypeVar("Share")
Result = TypeVar("Result")
Report = Callable[[Any], None]
Engine = Literal["ray", "processes", "inline"]


def run_shares(
    function: Callable[[Share, Report], Result],
    shares: Sequence[Share],
    *,
    workers: int,
    on_report: Report | None = None,
    engine: Engine = "processes",
) -> list[Future[Result]]:
    """Run ``function(share, report)`` for each share and return the finished futures, in the order of the shares.

    ``function`` and the shares are pickled. What it passes to ``report`` reaches ``on_report`` in this process. A share
    that raises does not stop the others. Ray uses the cluster's CPUs, whatever ``workers`` says.
    """
    if not shares:
        return []
    runner = {"ray": _run_on_ray, "processes": _run_in_processes, "inline": _run_here}[engine]
    return runner(function, shares, min(workers, len(shares)), on_report or (lambda report: None))


def _run_here(
    function: Callable[[Share, Report], Result], shares: Sequence[Share], workers: int, on_report: Report
) -> list[Future[Result]]:
    """One share after the other."""
    futures: list[Future[Result]] = []
    for share in shares:
        future: Future[Result] = Future()
        try:
            future.set_result(function(share, on_report))
        except Exception as error:
            future.set_exception(error)
        futures.append(future)
    return futures


def _run_in_processes(
    function: Callable[[Share, Report], Result], shares: Sequence[Share], workers: int, on_report: Report
) -> list[Future[Result]]:
    context = multiprocessing.get_context("spawn")
    manager = SyncManager(ctx=context)
    manager.start(end_with_parent)
    with (
        manager,
        ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(workers,)) as pool,
    ):
        reports = manager.Queue()
        futures = [pool.submit(function, share, reports.put) for share in shares]
        _pass_on(reports, lambda: all(future.done() for future in futures), on_report)
        return futures


def _run_on_ray(
    function: Callable[[Share, Report], Result], shares: Sequence[Share], workers: int, on_report: Report
) -> list[Future[Result]]:
    import ray
    from ray.util.queue import Queue

    started = not ray.is_initialized()
    if started:
        start_ray()
    try:
        reports = Queue(actor_options={"num_cpus": 0})
        task = ray.remote(function)
        futures = [task.remote(share, reports.put).future() for share in shares]
        _pass_on(reports, lambda: all(future.done() for future in futures), on_report)
        reports.shutdown(force=True)
        return [_unwrapped(future) for future in futures]
    finally:
        if started:
            ray.shutdown()


def _unwrapped(future: Future[Result]) -> Future[Result]:
    """With the error that the task raised, not the one that Ray made of it."""
    error = future.exception()
    if error is None:
        return future
    plain: Future[Result] = Future()
    plain.set_exception(getattr(error, "cause", None) or error)
    return plain


def _pass_on(reports: Any, done: Callable[[], bool], on_report: Report) -> None:
    """Hand reports on until all shares are done and the queue is empty."""
    while True:
        finished = done()
        try:
            while True:
                on_report(reports.get(timeout=0.01 if finished else 0.2))
        except Exception as error:
            if not (isinstance(error, queue.Empty) or type(error).__name__ == "Empty"):
                raise
            if finished:
                return


def start_ray() -> None:
    """A local Ray with as many CPUs as this process may use, quiet, and without a dashboard."""
    import logging

    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # its default of 15 lets any other process go first
    ray.init(
        num_cpus=len(os.sched_getaffinity(0)),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=200 * 2**20,
        configure_logging=False,
    )


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
    threads = str(max(1, len(os.sched_getaffinity(0)) // workers))
    os.environ.setdefault("LP_NUM_THREADS", "1")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, threads)
