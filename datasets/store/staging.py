"""Segments that are being written: a locked folder that nobody reads, until a commit record and a rename seal it.

The lock (on the folder itself, released by the kernel when its process ends) tells the work of a live writer from what
a dead one left behind. It excludes nobody from writing: each writer has a folder of its own.
"""

import fcntl
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vla.core.errors import DatasetError
from vla.core.files import make_folder, sync_folder, write_atomic
from vla.core.sealed import COMMIT, files_table, flush
from vla.datasets.storage.storage import LocalStorage, Storage
from vla.datasets.store.documents import encode
from vla.datasets.store.layout import now, segment_name

JOURNAL = "journal"
"""What a recorder notes of each step as it comes: never part of a sealed segment."""

_NAME = re.compile(r"\.tmp-(?P<id>[0-9a-f]{16}-[0-9a-f]{8})-(?P<host>.*)-(?P<pid>\d+)")


def host_name() -> str:
    """The name of the machine, as folders have it."""
    return socket.gethostname().replace("/", "_")


class StagedSegment:
    """One segment on its way."""

    def __init__(self, storage: Storage, folder: Path, identifier: str, handle: int) -> None:
        self.storage, self.folder, self.id = storage, folder, identifier
        self._handle, self._pid = handle, os.getpid()
        self.open = True

    @staticmethod
    def begin(storage: Storage) -> "StagedSegment":
        """Make and lock a folder for a new segment."""
        identifier = f"{time.time_ns():016x}-{secrets.token_hex(4)}"
        name = f"{identifier}-{host_name()}-{os.getpid()}"
        # Locked before it has the name that `adopt` looks for: so nobody finds it without its lock.
        fresh, folder = storage.staging / f".new-{name}", storage.staging / f".tmp-{name}"
        make_folder(storage.staging)
        _require_folder(storage.staging)
        fresh.mkdir()
        handle = _lock(fresh)
        assert handle is not None, fresh
        os.rename(fresh, folder)
        return StagedSegment(storage, folder, identifier, handle)

    @staticmethod
    def adopt(storage: Storage, folder: Path) -> "StagedSegment | None":
        """Take over what a dead writer of this machine left; None if its writer lives or it is gone."""
        match = _NAME.fullmatch(folder.name)
        assert match, folder
        handle = _lock(folder)
        return None if handle is None else StagedSegment(storage, folder, match["id"], handle)

    def sync_folders(self) -> None:
        """Make the names of all files survive a power cut, that of the folder too; `commit` does it again."""
        for path in [*self.folder.rglob("*"), self.folder, self.folder.parent]:
            if path.is_dir():
                sync_folder(path)

    def commit(self, *, steps: int, episodes: int, replaces: Sequence[str] = ()) -> None:
        """Flush every file and folder to disk and write the record of their sizes and checksums.

        The segment keeps a copy of ``dataset.json``, so that a dataset can be rebuilt from any of its segments.
        """
        (self.folder / "dataset.json").write_bytes(self.storage.read("dataset.json"))
        value = {
            "steps": steps,
            "episodes": episodes,
            "files": files_table(flush(self.folder, without=(JOURNAL, COMMIT))),
            **({"replaces": list(replaces)} if replaces else {}),
            "created": now(),
        }
        write_atomic(self.folder / COMMIT, encode(value))

    def install(self) -> None:
        """Move the committed folder into its place; from here on it is a segment. The lock is held until `release`."""
        (self.folder / JOURNAL).unlink(missing_ok=True)
        self.storage.install(self.folder, segment_name(self.id))
        self.open = False

    def release(self) -> None:
        """Unlock. A writer does so once its segment is published, so that `repair` leaves it alone until then."""
        if self._handle >= 0:
            if os.getpid() == self._pid:  # a fork shares the lock: only its owner may give it back
                fcntl.flock(self._handle, fcntl.LOCK_UN)
            os.close(self._handle)
            self._handle = -1

    def abandon(self) -> None:
        """Remove everything that was written; does nothing after `install`."""
        if self.open and os.getpid() == self._pid:
            # First of all: killed half way, this must not look like a seal that only lacks its last step.
            (self.folder / COMMIT).unlink(missing_ok=True)
            shutil.rmtree(self.folder, ignore_errors=True)
        self.open = False
        self.release()

    def leave(self) -> None:
        """Leave everything where it is, for `repair`."""
        self.open = False
        self.release()


@dataclass(frozen=True, kw_only=True)
class Remains:
    """A folder of an unfinished segment."""

    folder: Path
    host: str


def unfinished(storage: Storage) -> list[Remains]:
    """The folders of unsealed segments, of live writers too."""
    if not storage.staging.is_dir():
        return []
    _require_folder(storage.staging)
    with os.scandir(storage.staging) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    found = ((storage.staging / name, _NAME.fullmatch(name)) for name in names)
    return [Remains(folder=path, host=match["host"]) for path, match in found if match]


def _require_folder(folder: Path) -> None:
    """Raise `DatasetError` if segments would be written elsewhere."""
    if folder.is_symlink():
        raise DatasetError(f"{folder}: expected a folder, got a link, and links are not followed; take it away")


def require_own(folder: Path) -> None:
    """Raise `DatasetError` if anything below ``folder`` is no folder and no file of one name alone.

    What a dead writer left is written on; through a link, that would be written which the link points to.
    """
    for place, _, names in os.walk(folder):
        for path in [Path(place), *(Path(place) / name for name in names)]:
            found = path.lstat()
            alone = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
            if not (alone or stat.S_ISDIR(found.st_mode)):
                raise DatasetError(f"{path}: a link or a device, which no recorder writes; it is left alone")


@contextmanager
def alone(storage: Storage, what: str) -> Iterator[None]:
    """Around what replaces segments: two of them at once on one local dataset are a `DatasetError`."""
    if not isinstance(storage, LocalStorage) or not storage.root.is_dir():
        yield  # object stores have no locks
        return
    handle = _lock(storage.root)
    if handle is None:
        raise DatasetError(
            f"{storage.url}: another pack or repair is at work; wait until it is done, then {what} again"
        )
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def is_locked(folder: Path) -> bool:
    """Whether a live process of this machine holds the lock of a folder."""
    handle = _lock(folder, fcntl.LOCK_SH)  # so that two who look do not take each other for a writer
    if handle is None:
        return folder.exists()
    os.close(handle)
    return False


def _lock(folder: Path, kind: int = fcntl.LOCK_EX) -> int | None:
    """The locked handle of a folder, or None where somebody else has the lock or it is gone."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None  # a link to a folder is none either
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError as error:
        os.close(handle)
        raise DatasetError(f"{folder}: this file system cannot lock a folder ({error.strerror}); use another") from None
    with suppress(FileNotFoundError):
        if os.stat(folder).st_ino == os.fstat(handle).st_ino:
            return handle
    os.close(handle)  # it was renamed while we waited
    return None
