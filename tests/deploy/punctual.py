"""Tests of loops run before all else, where that is permitted: they are about time, and a busy machine takes it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def punctual() -> Iterator[None]:
    """The calling thread is a real-time one while the block runs; threads and processes that it begins are ordinary."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(5))
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.sched_setscheduler(0, *before)
