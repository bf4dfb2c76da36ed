"""Where a dataset lies: a folder, or a prefix of an object store. One interface, so that nothing else has to know.

Both promise the same two things on which all else rests: `Storage.put_if_absent` creates a file whole and never
replaces one, also when several processes try at once; `Storage.install` makes a folder's commit record visible last.
"""

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vla.core.errors import DatasetError
from vla.core.files import NotPlainError, flushed_in, folder_below, open_plain, plain_path

NO_FILE = -1
"""The size of a link, a device, or whatever else should be a file and is none."""
_FIX = "copy the dataset with what its links point to (cp -rL), or take the link away"

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
    """A folder of a local file system. Links below it are refused: a dataset may come from a stranger."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._prefix = os.path.realpath(self.root) + "/"

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
        handle = self._open(name)
        try:
            end = os.fstat(handle).st_size
            start = max(0, end + start) if start < 0 else start
            size = max(0, end - start) if size is None else min(size, max(0, end - start))
            data = os.pread(handle, size, start)
            while len(data) < size and (more := os.pread(handle, size - len(data), start + len(data))):
                data += more  # one call reads at most 2 GiB
            return data
        finally:
            os.close(handle)

    def read_into(self, name: str, start: int, *buffers: Any) -> int:
        """See `Storage.read_into`. Opening costs 7 us; no handle crosses a fork, and no limit of handles is met."""
        handle = self._open(name)
        try:
            return os.preadv(handle, buffers, start)
        finally:
            os.close(handle)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """See `Storage.put_if_absent`."""
        parent, short = _split(name)
        with self._folder(parent, create=True) as folder, flushed_in(folder, short, data) as temporary:
            try:  # unlike a rename, a link never replaces what another process put there
                os.link(temporary, short, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                return False
            os.fsync(folder)
        return True

    def install(self, folder: Path, name: str) -> None:
        """Rename: the commit record is in the folder already, and all of it appears at once."""
        parent, short = _split(name)
        with self._folder(parent, create=True) as target:
            os.rename(folder, short, dst_dir_fd=target)
            os.fsync(target)

    def children(self, folder: str) -> list[str]:
        """See `Storage.children`."""
        try:
            with self._folder(folder) as handle:
                return sorted(os.listdir(handle))
        except FileNotFoundError:
            return []

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Storage.sizes`; what is no file, as links are none, has the size `NO_FILE`."""
        found: dict[str, int] = {}
        pending = [""]
        while pending:
            prefix = pending.pop()
            try:
                with self._folder(f"{folder}/{prefix}".rstrip("/")) as handle, os.scandir(handle) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(f"{prefix}{entry.name}/")
                        elif entry.is_file(follow_symlinks=False):
                            found[prefix + entry.name] = entry.stat(follow_symlinks=False).st_size
                        else:
                            found[prefix + entry.name] = NO_FILE
            except FileNotFoundError:
                continue
        return found

    def move(self, name: str, target: str) -> None:
        """See `Storage.move`."""
        (old, old_short), (new, new_short) = _split(name), _split(target)
        with self._folder(old) as source, self._folder(new, create=True) as place:
            os.rename(old_short, new_short, src_dir_fd=source, dst_dir_fd=place)
            os.fsync(place)
            os.fsync(source)

    def _open(self, name: str) -> int:
        try:
            return open_plain(self._prefix + _plain(name), os.O_RDONLY, f"{self.root}/{name}")
        except NotPlainError as error:
            raise DatasetError(f"{error}; {_FIX}") from None

    @contextmanager
    def _folder(self, name: str, *, create: bool = False) -> Iterator[int]:
        try:
            with folder_below(self.root, name, create=create) as handle:
                yield handle
        except NotPlainError as error:
            raise DatasetError(f"{error}; {_FIX}") from None


_plain = functools.lru_cache(maxsize=4096)(plain_path)


def _split(name: str) -> tuple[str, str]:
    """The folder of a name, and the name within it."""
    parent, _, short = plain_path(name).rpartition("/")
    return parent, short
