"""Folders for what is not the user's: temporary files, whose paths sockets keep short, and caches that may be lost."""

import os
import stat
import tempfile
import warnings
from pathlib import Path

from vla.core.errors import VlaError

LONGEST = 40
"""Characters of a temporary folder: the path of a socket has 107, and Ray adds 65 of its own to the folder."""
_OTHERS = ("/tmp", "/var/tmp", "/dev/shm")
_TOLD = ("TMPDIR", "RAY_TMPDIR")
"""What users set: Ray reads them itself, and takes either as it is."""


def use_writable_folders() -> None:
    """See that this process and those that it starts can write what is temporary, and what is kept to save time.

    The folders are those that the user chose wherever they serve. Numba refuses to compile where it cannot keep what
    it has compiled, and Matplotlib complains.
    """
    _use_short_temporary_folders()
    cache = cache_folder()
    if cache != _usual_cache():
        os.environ["XDG_CACHE_HOME"] = str(cache)
        os.environ.setdefault("MPLCONFIGDIR", str(cache))


def _use_short_temporary_folders() -> None:
    """Nothing that makes sockets could start in a folder with a long path; a warning says what was left."""
    for name in _TOLD:
        chosen = os.environ.get(name)
        if chosen is None or (why := _unfit(chosen)) is None:
            continue
        folder = short_temporary_folder()
        os.environ[name] = tempfile.tempdir = str(folder)
        warnings.warn(f"{name}={chosen} {why}: temporary files go to {folder}", stacklevel=3)


def short_temporary_folder() -> Path:
    """A folder for temporary files with a short path; `VlaError` where there is none that can be written to."""
    found = next((path for path in (tempfile.gettempdir(), *_OTHERS) if _unfit(path) is None), None)
    if found is None:
        tried = ", ".join(dict.fromkeys((tempfile.gettempdir(), *_OTHERS)))
        raise VlaError(
            f"no folder for temporary files: tried {tried}; set TMPDIR to one that can be written to, "
            f"of at most {LONGEST} characters"
        )
    return Path(found)


def _unfit(folder: str) -> str | None:
    """Why no sockets can be made in ``folder``."""
    if len(os.path.abspath(folder)) > LONGEST:
        return f"has {len(os.path.abspath(folder))} characters, too many for the sockets of Ray and multiprocessing"
    if not os.path.isdir(folder):
        return "is no folder"
    if not _writable(Path(folder)):
        return "cannot be written to"
    return None


def cache_folder() -> Path:
    """The user's folder for caches, or one of this user's own among the temporary files where that cannot be made."""
    usual = _usual_cache()
    try:
        if usual is not None:
            usual.mkdir(parents=True, exist_ok=True)
    except OSError:
        return _own_temporary_folder()
    return usual if usual is not None and _writable(usual) else _own_temporary_folder()


def _usual_cache() -> Path | None:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a name and without HOME
        return None


def _own_temporary_folder() -> Path:
    """The same for each process of this user; one that somebody else has put there is refused."""
    folder = short_temporary_folder() / f"vla-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise VlaError(f"{folder} belongs to another user; set XDG_CACHE_HOME to a folder of your own")
    return folder


def _writable(folder: Path) -> bool:
    """Tried, since root may write everywhere but on what is mounted read-only."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def free_shared_memory() -> int:
    """Bytes that are free in ``/dev/shm``, through which processes hand tensors over; 0 where there is none."""
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize
