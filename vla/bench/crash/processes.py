"""The processes of the crash test: started cheaply, listened to, and killed with all that they started."""

import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any

from vla.bench.crash.roles import log_of

_PRELOAD = ["vla.bench.crash.roles"]
_ORPHANS_S = 10.0
"""How long what a killed process had started may take to notice."""


@dataclass(kw_only=True)
class Child:
    """One process, and what it has said."""

    process: Any
    pipe: Connection
    root: Path
    role: str
    stage: str = "starting"
    stages: Counter[str] = field(default_factory=Counter)
    """How often it has been in each."""
    sealed: dict[str, str] = field(default_factory=dict)
    """Digest of each episode by its uid."""
    published: dict[str, str] = field(default_factory=dict)
    handed_over: dict[int, list[int]] = field(default_factory=dict)
    """Recorders: by seed, the times at which `add` returned, monotonic nanoseconds."""
    begun: list[str] = field(default_factory=list)
    """Names of imports."""
    read: tuple[int, int, list[str]] = (0, 0, [])
    """Readers: versions, episodes, errors."""
    killed_ns: int = 0
    """When it was killed; 0 while it lives."""
    ended: bool = False
    """Its pipe is closed."""

    def hear(self) -> None:
        """Take one message; one that was cut short by a kill ends all."""
        try:
            kind, *values = json.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            self.ended = True
            return
        if kind == "stage":
            (self.stage,) = values
            self.stages[self.stage] += 1
        elif kind in ("sealed", "published"):
            getattr(self, kind).update({uid: digest for digest, uid in values[0]})
        elif kind == "step":
            seed, step, at = values
            self.handed_over.setdefault(seed, []).append(at)
            assert len(self.handed_over[seed]) == step + 1
        elif kind == "begun":
            self.begun += values
        elif kind == "read":
            self.read = values[0], values[1], values[2]


class Children:
    """All processes; leaving the block ends them."""

    def __init__(self) -> None:
        # Killed pools cannot clean up; the process that does it for them would tell of it at the end.
        os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker"
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOAD)
        self._all: list[Child] = []
        self.stages: Counter[str] = Counter()
        """How many were killed in each stage."""

    def start(self, role: Callable[..., None], root: Path, *arguments: Any) -> Child:
        """Run ``role(pipe, root, *arguments)`` in a new process."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=role, args=(theirs, root, *arguments))
        process.start()
        theirs.close()
        child = Child(process=process, pipe=ours, root=root, role=role.__name__)
        self._all.append(child)
        return child

    def of(self, root: Path) -> list[Child]:
        """The processes of one dataset, those too that are dead."""
        return [child for child in self._all if child.root == root]

    def listen(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Hear what all say for a while, or until it is enough, and in any case what they have said already."""
        until = time.monotonic() + seconds
        while not enough():
            open_pipes = {child.pipe: child for child in self._all if not child.ended}
            ready = wait(list(open_pipes), timeout=max(0.0, until - time.monotonic()))
            for pipe in ready:
                open_pipes[pipe].hear()  # type: ignore[index]
            if time.monotonic() >= until and (not ready or seconds):
                return

    def kill(self, child: Child) -> int:
        """SIGKILL; the number of processes that outlive it, which are then killed too. Does nothing to the dead."""
        if child.killed_ns:
            return 0
        assert child.process.is_alive(), f"{child.role} ended by itself:\n{log_of(child.root).read_text()[-3000:]}"
        pid = child.process.pid
        self.stages[child.stage] += 1
        child.killed_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        child.process.join()
        left = _end_group(pid)
        while not child.ended:
            child.hear()
        return left

    def stop(self, child: Child) -> Child:
        """Tell a reader to stop, and wait for what it says."""
        child.pipe.send_bytes(b"stop")
        while not child.ended:
            child.hear()
        child.process.join()
        child.killed_ns = time.monotonic_ns()
        return child

    def __enter__(self) -> "Children":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._all:
            if child.process.is_alive():
                with suppress(ProcessLookupError):
                    os.kill(child.process.pid, signal.SIGKILL)
                child.process.join()
                _end_group(child.process.pid)
            child.pipe.close()
            child.process.close()


def _end_group(group: int) -> int:
    """Wait until no process of a group is left; those that stay are killed, and counted."""
    until = time.monotonic() + _ORPHANS_S
    while _exists(group):
        if time.monotonic() > until:
            left = sum(_group_of(pid) == group for pid in _pids())
            os.killpg(group, signal.SIGKILL)
            return left
        time.sleep(0.01)
    return 0


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
