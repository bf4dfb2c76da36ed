"""Priorities of threads, where a library changes them without being asked."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def kept_priorities() -> Iterator[None]:
    """What runs in the block changes no thread's priority: new threads get that of this one, old ones keep theirs.

    Run by root, SVT-AV1 makes the thread that opens it, and its own, real-time ones at the highest priority, for good;
    whatever starts from there inherits that, and takes a core from everybody, a robot's control loop too.
    """
    if not hasattr(os, "sched_getscheduler"):  # not Linux
        yield
        return
    before = _priorities()
    own = os.sched_getscheduler(0), os.sched_getparam(0)  # 0 is this thread
    try:
        yield
    finally:
        for thread, found in _priorities().items():
            policy, parameter = before.get(thread, own)
            if found != (policy, parameter):
                with suppress(OSError):  # it has ended
                    os.sched_setscheduler(thread, policy, parameter)


def punctual(priority: int) -> bool:
    """Let the calling thread run before all that is not real-time, where that is allowed; whether it is.

    For a thread that sleeps most of the time. Threads that it starts have the same priority.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except (OSError, AttributeError):  # not root, or not Linux
        return False
    return True


def _priorities() -> dict[int, tuple[int, os.sched_param]]:
    found = {}
    for thread in map(int, os.listdir("/proc/self/task")):
        with suppress(OSError):
            found[thread] = os.sched_getscheduler(thread), os.sched_getparam(thread)
    return found
