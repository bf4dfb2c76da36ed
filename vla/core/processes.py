"""Work shared out to workers that report as they go: spawned processes, actors of a Ray cluster, or this process.

Processes are spawned, because GL contexts and threads do not survive a fork.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Literal, TypeVar

from vla.core.machine.stopping import handlers_kept
from vla.core.spawned import Work, WorkerDiedError, run_in_workers

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
) -> list[Future[Result]]:
    """Run ``function(share, report)`` for each share and return the finished futures, in the order of the shares.

    ``function`` is pickled once for each worker, and may keep things from share to share; shares begin in their order.
    What it passes to ``report`` reaches ``on_report`` in this process. A share that raises does not stop the others,
    nor does a worker that dies (`WorkerDiedError`). Once ``stop()`` is true, shares that have not begun are cancelled.
    Ray uses the cluster's CPUs, whatever ``workers`` says.
    """
    if not shares:
        return []
    work = Work(function, shares, min(workers, len(shares)), on_report or (lambda report: None), stop)
    return {"ray": _run_on_ray, "processes": _run_in_processes, "inline": _run_here}[engine](work)


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
            future.set_result(work.function(share, work.on_report))
        except Exception as error:
            future.set_exception(error)
    return futures


def _run_in_processes(work: Work) -> list[Future[Any]]:
    return run_in_workers(work, partial(_begin_worker, work.workers))


class _RayActor:
    """An actor that keeps the function from share to share."""

    def __init__(self, function: Callable[[Any, Report], Any], reports: Any) -> None:
        os.environ.setdefault("LP_NUM_THREADS", "1")  # as in `_begin_worker`; Ray itself limits the other threads
        self._function, self._reports = function, reports

    def run(self, share: Any) -> Any:
        """One share."""
        return self._function(share, self._reports.put)


def _run_on_ray(work: Work) -> list[Future[Any]]:
    import ray
    from ray.util.queue import Queue

    started = not ray.is_initialized()
    if started:
        with handlers_kept():
            start_ray()
    reports = Queue(actor_options={"num_cpus": 0})
    actor = ray.remote(num_cpus=1, max_restarts=0)(_RayActor)
    crew: dict[Any, Any] = {}  # what a share's result will be → its actor
    futures: list[Future[Any]] = [Future() for _ in work.shares]
    waiting = deque(zip(work.shares, futures, strict=True))
    busy: dict[Any, Future[Any]] = {}

    def give(worker: Any) -> None:
        share, future = waiting.popleft()
        result = worker.run.remote(share)
        crew[result], busy[result] = worker, future

    try:
        for _ in range(min(len(work.shares), max(1, int(ray.cluster_resources().get("CPU", 1))))):
            give(actor.remote(work.function, reports))
        while busy:
            done, _ = ray.wait(list(busy), timeout=0.2)
            _pass_on(reports, work.on_report)
            for result in done:
                worker, future = crew.pop(result), busy.pop(result)
                died = _settle(future, result)
                if waiting and not work.stop():
                    give(actor.remote(work.function, reports) if died else worker)
        _pass_on(reports, work.on_report)
        for _, future in waiting:
            future.cancel()
        return futures
    finally:
        for worker in crew.values():
            ray.kill(worker)
        reports.shutdown(force=True)
        if started:
            ray.shutdown()


def _settle(future: Future[Any], result: Any) -> bool:
    """Fill the future with what the actor answered, or with the error that it raised; whether the actor has died."""
    import ray

    try:
        future.set_result(ray.get(result))
    except ray.exceptions.RayActorError as error:
        future.set_exception(WorkerDiedError(f"a Ray actor died ({str(error).splitlines()[0]})"))
        return True
    except ray.exceptions.RayTaskError as error:
        future.set_exception(error.cause or error)
    return False


def _pass_on(reports: Any, on_report: Report) -> None:
    """Hand on what has been reported."""
    while size := reports.qsize():
        for report in reports.get_nowait_batch(size):
            on_report(report)


def start_ray() -> None:
    """A local Ray with as many CPUs as this process may use, quiet, and without a dashboard."""
    import logging

    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # its default of 15 lets any other process go first
    ray.init(
        num_cpus=cores(),
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
    threads = str(max(1, cores() // workers))
    os.environ.setdefault("LP_NUM_THREADS", "1")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, threads)
