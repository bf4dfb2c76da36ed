"""Shares of work on the actors of a Ray cluster, which are there once the cluster has a CPU for them."""

import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from vla.core.machine.ray_cluster import RayError, start_ray
from vla.core.machine.spawned import Work, WorkerDiedError
from vla.core.machine.stopping import handlers_kept

PATIENCE_S = 120.0
"""How long no worker at all may be there before it is an error."""


class _Actor:
    """Keeps the function from share to share."""

    def __init__(self, function: Callable[[Any, Callable[[Any], None]], Any], reports: Any, folder: str) -> None:
        # Ray begins it where its driver was when it joined; relative paths mean where that is now, if this node has it.
        with suppress(OSError):
            os.chdir(folder)
        os.environ.setdefault("LP_NUM_THREADS", "1")  # as in the processes; Ray itself limits the other threads
        self._function, self._reports = function, reports

    def ready(self) -> None:
        """Answer once this actor has a CPU and has loaded the function."""

    def run(self, share: Any, number: int) -> Any:
        """One share; what it reports carries its ``number``."""
        return self._function(share, lambda report: self._reports.put((number, report)))


class _Crew:
    """Actors that are starting, and those that are busy, by what they will answer."""

    def __init__(self, work: Work, reports: Any, size: int) -> None:
        import ray

        self._work, self._reports = work, reports
        self._kind = ray.remote(num_cpus=1, max_restarts=0)(_Actor)
        self.starting: dict[Any, Any] = {}
        self.busy: dict[Any, tuple[Any, Future[Any]]] = {}
        self._numbers: dict[Any, int] = {}
        self._heard: dict[int, float] = {}
        """When each share, by its number, was last heard of."""
        self.silent: dict[Any, str] = {}
        """Why those were ended that said nothing, until their end is seen."""
        for _ in range(size):
            self.add()

    def add(self) -> None:
        """One more actor, which gets a share only once it is there: one that waits for a CPU keeps none from others."""
        actor: Any = self._kind.remote(self._work.function, self._reports, os.getcwd())
        self.starting[actor.ready.remote()] = actor

    def give(self, actor: Any, share: Any, future: "Future[Any]") -> None:
        """A share for an actor that has none."""
        number = len(self._heard)
        answer = actor.run.remote(share, number)
        self.busy[answer] = actor, future
        self._numbers[answer], self._heard[number] = number, time.monotonic()

    def listen(self) -> None:
        """Hand on what has been reported."""
        while size := self._reports.qsize():
            for number, report in self._reports.get_nowait_batch(size):
                self._heard[number] = time.monotonic()
                self._work.on_report(report)

    def end_silent(self) -> None:
        """End the actors that have said nothing for too long; their answers become that error."""
        import ray

        for answer, (actor, _) in self.busy.items():
            why = self._work.silent(self._heard[self._numbers[answer]])
            if why and answer not in self.silent:
                self.silent[answer] = f"a Ray actor {why}"
                ray.kill(actor)

    def kill(self) -> None:
        """End all of them."""
        import ray

        for actor in [*self.starting.values(), *(actor for actor, _ in self.busy.values())]:
            ray.kill(actor)


def run_on_ray(work: Work) -> "list[Future[Any]]":
    """As `vla.core.machine.processes.run_shares` says; `RayError` where the cluster has room for no worker at all."""
    started = _ensure_ray()
    import ray
    from ray.util.queue import Queue

    reports = Queue(actor_options={"num_cpus": 0})
    futures: list[Future[Any]] = [Future() for _ in work.shares]
    waiting = deque(zip(work.shares, futures, strict=True))
    cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
    crew = _Crew(work, reports, min(len(work.shares), cpus))
    last = time.monotonic()
    try:
        while crew.busy or (waiting and not work.stop()):
            done, _ = ray.wait([*crew.starting, *crew.busy], timeout=0.2)
            crew.listen()
            crew.end_silent()
            for answer in done:
                actor = _answered(crew, answer, work)
                if waiting and not work.stop():
                    if actor is None:
                        crew.add()
                    else:
                        crew.give(actor, *waiting.popleft())
            last = time.monotonic() if crew.busy or done else last
            if time.monotonic() > last + PATIENCE_S:
                raise RayError(_no_room(PATIENCE_S))
        crew.listen()
        for _, future in waiting:
            future.cancel()
        return futures
    finally:
        crew.kill()
        reports.shutdown(force=True)
        if started:
            ray.shutdown()


def _ensure_ray() -> bool:
    """Whether Ray had to be started or joined."""
    import sys

    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return False
    with handlers_kept():
        start_ray()
    return True


def _answered(crew: _Crew, answer: Any, work: Work) -> Any:
    """The actor that is free now, with its share settled; None if it has died."""
    import ray

    if answer in crew.starting:
        actor = crew.starting.pop(answer)
        try:
            ray.get(answer)
        except ray.exceptions.RayError as error:
            raise RayError(f"a Ray worker cannot start: {_cause(error)}") from error
        return actor
    actor, future = crew.busy.pop(answer)
    try:
        future.set_result(ray.get(answer))
    except ray.exceptions.RayActorError as error:
        death = crew.silent.pop(answer, "") or f"a Ray actor died ({str(error).splitlines()[0]})"
        work.note(death)
        future.set_exception(WorkerDiedError(death))
        return None
    except ray.exceptions.RayTaskError as error:
        future.set_exception(error.cause or error)
    return actor


def _cause(error: Exception) -> str:
    """The last line that says something: Ray's errors are reports with the cause at their end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _no_room(seconds: float) -> str:
    import ray

    cpus, free = (found.get("CPU", 0) for found in (ray.cluster_resources(), ray.available_resources()))
    return (
        f"the Ray cluster has started no worker in {seconds:g} s: a worker wants one CPU, of {cpus:g} there "
        f"{free:g} are free; wait for its other jobs, add CPUs, or use --engine processes"
    )
