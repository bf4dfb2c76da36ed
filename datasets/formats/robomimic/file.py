"""HDF5 files: opening them, and why one cannot be opened."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vla.core.errors import DatasetError
from vla.core.machine.packages import needed_packages
from vla.core.media.signatures import cause_of

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_PLACES = (0, 512, 1024, 2048, 4096, 8192)
"""Where the signature may stand: programs such as MATLAB put a block of their own before it."""


def is_hdf5(path: Path) -> bool:
    """Whether a file has the signature; it may still be damaged."""
    with path.open("rb") as file:
        for place in _PLACES:
            file.seek(place)
            if file.read(len(_SIGNATURE)) == _SIGNATURE:
                return True
    return False


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """The open ``h5py.File``; one that cannot be opened, and damage met while it is read, are a `DatasetError`."""
    with needed_packages(str(path)):
        import h5py
    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            yield file
    except DatasetError:
        raise
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not a readable HDF5 file: {_cause(path, error)}") from None


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


def _cause(path: Path, error: Exception) -> str:
    """Why, and what to do about it."""
    reason = " ".join(str(error).split())
    if isinstance(error, PermissionError):
        return "you may not read it: ask its owner, or chmod it"
    if path.is_dir() or not is_hdf5(path):
        return cause_of(path, "an HDF5 file") or f"it has no signature of HDF5, but begins with {_start(path)!r}"
    if size := re.search(r"truncated file: eof = (\d+).*stored_eof = (\d+)", reason):
        return (
            f"it is cut short: {size[1]} of {size[2]} bytes are there; copy it again, "
            "unless the program that wrote it died: then only a copy of before helps"
        )
    if "unable to lock file" in reason:
        return "another program holds it open for writing: wait until that has closed it"
    if "already open for" in reason:
        return (
            "a program still writes it, or died while it did: close it there; "
            f"if it died, run h5clear -s {path.name}, and look at the last demonstration"
        )
    return f"it is damaged ({reason}): copy it again, or write it again from its source"
