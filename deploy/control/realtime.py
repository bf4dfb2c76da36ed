"""What a loop asks of the machine to wake up in time: a real-time thread, memory that stays, no collector of garbage.

Each is taken if it is permitted, and said; none is needed.
"""

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Iterator

_CURRENT, _FUTURE = 1, 2
_everywhere: set[int] | None = None
"""Where the process ran before one of its threads was bound."""
_SWITCH_S = 5e-4
"""After which another Python thread must let the loop run; 5 ms by default."""


@contextlib.contextmanager
def real_time(*, priority: int = 50, core: int | None = None) -> Iterator[str]:
    """Make the calling thread a real-time one while the block runs; gives a line that says what was granted.

    ``priority`` is of SCHED_FIFO, 0 for none: only a loop that always sleeps may have one. ``core`` binds the thread.
    """
    granted, refused = [], []
    switch = sys.getswitchinterval()
    with contextlib.ExitStack() as undo:
        for what, take in (
            (f"SCHED_FIFO {priority}", lambda: _fifo(priority, undo)),
            ("memory locked", lambda: _lock(undo)),
            (f"core {core}", lambda: _bind(core, undo)),
        ):
            try:
                took = take()
            except (OSError, ValueError, OverflowError) as error:
                refused.append(f"{what} ({getattr(error, 'strerror', None) or error})")
            else:
                granted += [what] if took else []
        gc.collect()
        gc.freeze()
        gc.disable()
        undo.callback(gc.unfreeze)
        undo.callback(gc.enable)
        sys.setswitchinterval(_SWITCH_S)
        undo.callback(sys.setswitchinterval, switch)
        line = ", ".join(granted) or "nothing"
        yield f"granted: {line}" + (f"; not permitted: {', '.join(refused)}" if refused else "")


def unbound() -> None:
    """For a thread that is begun from a bound one, and is not to stay with it."""
    if _everywhere is not None:
        os.sched_setaffinity(0, _everywhere)


def _fifo(priority: int, undo: contextlib.ExitStack) -> bool:
    if not priority:
        return False
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    # Whatever thread or process is begun from here is an ordinary one.
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    undo.callback(os.sched_setscheduler, 0, policy, parameter)
    return True


def _lock(undo: contextlib.ExitStack) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_CURRENT | _FUTURE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    undo.callback(libc.munlockall)
    return True


def _bind(core: int | None, undo: contextlib.ExitStack) -> bool:
    if core is None:
        return False
    global _everywhere
    before = _everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    undo.callback(os.sched_setaffinity, 0, before)
    return True
