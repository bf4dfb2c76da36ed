"""Where a dataset lies: a folder, or a prefix of an object store. One interface, so that nothing else has to know.

Both promise the same two things on which all else rests: `Storage.put_if_absent` creates a file whole and never
replaces one, also when several processes try at once; `Storage.install` makes a folder's commit record visible last.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vla.core.errors import DatasetError
from vla.core.files import flushed_beside, make_folder, sync_folder

COMMIT = "COMMIT.json"
"""The file that makes an installed folder exist."""

_SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "file")

Location = str | Path
"""A path, or a URL such as ``s3://bucket/prefix``."""


@runtime_checkable
class Storage(Protocol):
    """Files below one root; names are relative, with ``/``. A missing file is a `FileNotFoundError`."""

    @property
    def url(self) -> str:
        """Path or URL of the root: what `open_storage` takes."""

    @property
    def staging(self) -> Path:
        """A local folder for what is not installed yet; on the file system of the root if that is local."""

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """``size`` bytes from ``start``, fewer at the end of the file; a negative start counts from the end."""

    def read_into(self, name: str, start: int, *buffers: Any) -> int:
        """Fill writable buffers with consecutive bytes; returns how many there were."""

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Create a file whole and durably; false, and no change, if it exists."""

    def install(self, folder: Path, name: str) -> None:
        """Move a local folder to ``name``, its commit record last."""

    def children(self, folder: str) -> list[str]:
        """Names directly below a folder, sorted; none if it does not exist."""

    def sizes(self, folder: str) -> Mapping[str, int]:
        """Size in bytes of every file below a folder, by its name relative to it."""

    def move(self, name: str, target: str) -> None:
        """Rename a folder or a file; not atomic on object stores."""


def open_storage(location: "Location | Storage") -> Storage:
    """The storage at a path or URL; s3, gs and az URLs go through obstore, which reads AWS_… and such variables."""
    if isinstance(location, Storage):
        return location
    text = str(location)
    if isinstance(location, Path) and text.split(":/")[0] in _SCHEMES:
        raise DatasetError(f"{text}: a URL does not survive as a path; give it as text")
    scheme, separator, _ = text.partition("://")
    if not separator or scheme == "file":
        return LocalStorage(Path(text.removeprefix("file://")))
    from vla.datasets.storage.object_storage import ObjectStorage

    return ObjectStorage(text)


def location_name(location: Location) -> str:
    """The last part of a path or URL: what a dataset is called."""
    return str(location).rstrip("/").rsplit("/", 1)[-1]


class LocalStorage:
    """A folder of a local file system."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._prefix = str(self.root) + "/"

    @property
    def url(self) -> str:
        """The absolute path."""
        return str(self.root)

    @property
    def staging(self) -> Path:
        """Beside the sealed segments, so that installing is a rename."""
        return self.root / "segments"

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """See `Storage.read`."""
        handle = os.open(self._prefix + name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if start < 0 or size is None:
                end = os.fstat(handle).st_size
                start = max(0, end + start) if start < 0 else start
                size = max(0, end - start) if size is None else size
            data = os.pread(handle, size, start)
            while len(data) < size and (more := os.pread(handle, size - len(data), start + len(data))):
                data += more  # one call reads at most 2 GiB
            return data
        finally:
            os.close(handle)

    def read_into(self, name: str, start: int, *buffers: Any) -> int:
        """See `Storage.read_into`. Opening costs 4 us; no handle crosses a fork, and no limit of handles is met."""
        handle = os.open(self._prefix + name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.preadv(handle, buffers, start)
        finally:
            os.close(handle)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """See `Storage.put_if_absent`."""
        path = self.root / name
        make_folder(path.parent)
        with flushed_beside(path, data) as temporary:
            try:
                os.link(temporary, path)  # unlike a rename, a link never replaces what another process put there
            except FileExistsError:
                return False
        sync_folder(path.parent)
        return True

    def install(self, folder: Path, name: str) -> None:
        """Rename: the commit record is in the folder already, and all of it appears at once."""
        target = self.root / name
        make_folder(target.parent)
        os.rename(folder, target)
        sync_folder(target.parent)

    def children(self, folder: str) -> list[str]:
        """See `Storage.children`."""
        try:
            return sorted(os.listdir(self.root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Storage.sizes`."""
        found: dict[str, int] = {}
        base = self.root / folder
        pending = [(base, "")]
        while pending:
            place, prefix = pending.pop()
            try:
                entries = list(os.scandir(place))
            except (FileNotFoundError, NotADirectoryError):
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append((Path(entry.path), f"{prefix}{entry.name}/"))
                else:
                    found[prefix + entry.name] = entry.stat().st_size
        return found

    def move(self, name: str, target: str) -> None:
        """See `Storage.move`."""
        place = self.root / target
        make_folder(place.parent)
        os.rename(self.root / name, place)
        sync_folder(place.parent)
