"""What a machine makes libraries raise is one line; a fault of the program is none."""

import errno

import pytest

from vla.core.errors import VlaError
from vla.core.machine.failures import explain


class OutOfMemoryError(RuntimeError):
    """Called like PyTorch's own."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (VlaError("as it is"), "as it is"),
        (MemoryError(), "out of memory (MemoryError)"),
        (RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), "out of memory ("),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out of the GPU's memory"),
        (RuntimeError("Found no NVIDIA driver on your system"), "the GPU cannot be used"),
        (RuntimeError("can't start new thread"), "raise ulimit -u"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "/data/x: disk full; free space"),
        (OSError(errno.EMFILE, "Too many open files"), "raise ulimit -n"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), "/root/x: Permission denied"),
        (ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow"), "pip install 'vla[formats]'"),
    ],
)
def test_one_line_from_the_cause(error: Exception, words: str) -> None:
    said = explain(error)
    assert said is not None
    assert words in said
    assert "\n" not in said


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("ours"), ImportError("of ours", name="vla.x")])
def test_faults_of_the_program_are_none(error: Exception) -> None:
    assert explain(error) is None
