"""What a user's machine makes libraries raise, in one line that follows from the cause."""

import errno
import os
from collections.abc import Callable

from vla.core.errors import VlaError
from vla.core.machine.packages import missing_package

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_Explanation = Callable[[BaseException], str | None]


def explain(error: BaseException) -> str | None:
    """One line for an error that input or the machine has caused; None for what is a fault of the program."""
    if isinstance(error, VlaError):
        return str(error)
    found = (explanation(error) for explanation in (_package, _memory, _threads, _device, _system))
    return next((" ".join(line.split()) for line in found if line), None)


def _package(error: BaseException) -> str | None:
    missing = missing_package(error) if isinstance(error, ImportError) else None
    return str(missing) if missing else None


def _memory(error: BaseException) -> str | None:
    """Of the processor and of GPUs: PyTorch raises a RuntimeError for either, of which only one has a class."""
    text = _first_line(error)
    on_gpu = type(error).__name__ == "OutOfMemoryError" or "CUDA out of memory" in text
    if on_gpu or isinstance(error, MemoryError) or "can't allocate memory" in text or "Cannot allocate memory" in text:
        which = "the GPU's memory" if on_gpu else "memory"
        return f"out of {which} ({text or 'MemoryError'}); use a smaller batch, smaller images or fewer workers"
    return None


def _threads(error: BaseException) -> str | None:
    text = _first_line(error)
    if "can't start new thread" in text or (isinstance(error, BlockingIOError) and error.errno == errno.EAGAIN):
        return f"this machine allows no more processes or threads ({text}); raise ulimit -u, or use fewer workers"
    return None


def _device(error: BaseException) -> str | None:
    text = _first_line(error)
    if isinstance(error, RuntimeError) and (text.startswith(("CUDA error", "NCCL error")) or "NVIDIA driver" in text):
        return f"the GPU cannot be used ({text}); try --device cpu"
    return None


def _system(error: BaseException) -> str | None:
    """What the operating system refused."""
    if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
        return None
    where = f"{os.fspath(error.filename)}: " if isinstance(error.filename, str | os.PathLike) else ""
    if error.errno in _FULL:
        return f"{where}disk full; free space and run the same command again, all that was finished is kept"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{where}{error.strerror}: raise ulimit -n, or use fewer workers"
    return f"{where}{error.strerror or error}"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
