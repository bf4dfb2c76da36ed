"""Memory of processes, and what the kernel says of those that it killed for want of it."""

import atexit
import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path

_CGROUPS, _PROC = Path("/sys/fs/cgroup"), Path("/proc")


def resident_bytes(pid: int | str = "self") -> dict[str, int]:
    """Memory of a process: ``rss``, all that is resident, and ``anonymous``, without the pages of files.

    Zeros where the process has gone, or the system does not say.
    """
    try:
        text = (_PROC / str(pid) / "status").read_text()
    except OSError:
        return {"rss": 0, "anonymous": 0}
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    keys = (("rss", "VmRSS"), ("anonymous", "RssAnon"))
    return {name: int(lines.get(key, "0").split()[0]) * 1024 for name, key in keys}


_TRIM, _MMAP = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)."""


def keep_free(size: int = 8 << 20) -> None:
    """Keep up to ``size`` bytes that are free, for what comes and goes: by default some images.

    By default they go back to the system each time, and new pages cost more than what is done with them.
    """
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM, size)
        libc.mallopt(_MMAP, size)


def give_back() -> None:
    """Free what only cycles hold, and give what is free to the system: the C library alone would keep it for later."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def collect_seldom() -> None:
    """From now on look for garbage a fourteenth as often, and not when the process ends.

    Importing PyTorch makes 300,000 objects that stay: looking through them meanwhile and at the end takes 0.7 s.
    """
    gc.set_threshold(10_000)
    atexit.register(gc.freeze)


def machine_bytes() -> int:
    """Memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def memory_kills() -> int | None:
    """How many processes the kernel has killed for memory, where this one can see it; None where it cannot.

    Of this process's control group (version 2: ``memory.events``, 1: ``memory.oom_control``), and of the machine.
    """
    places = [(_PROC / "vmstat", "oom_kill")]
    for line in _lines(_PROC / "self/cgroup"):
        _, kinds, path = line.split(":", 2)
        if not kinds:
            places += [(_CGROUPS / path.lstrip("/") / "memory.events", "oom_kill")]
        elif "memory" in kinds.split(","):
            places += [(_CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control", "oom_kill")]
    found = [
        int(value) for file, key in places for name, _, value in (s.partition(" ") for s in _lines(file)) if name == key
    ]
    return sum(found) if found else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
