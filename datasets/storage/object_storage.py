"""A dataset in an object store: conditional puts, and segments uploaded with their commit record last."""

import hashlib
import shutil
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from vla.core.errors import DatasetError
from vla.core.machine.packages import needed_packages
from vla.core.machine.places import cache_folder
from vla.core.sealed import COMMIT

P = ParamSpec("P")
R = TypeVar("R")


def _explained(
    method: "Callable[Concatenate[ObjectStorage, P], R]",
) -> "Callable[Concatenate[ObjectStorage, P], R]":
    """A service that refuses, or is not reached, is a `DatasetError`: obstore prints its whole configuration."""

    @wraps(method)
    def call(storage: "ObjectStorage", /, *args: P.args, **options: P.kwargs) -> R:
        from obstore.exceptions import BaseError

        try:
            return method(storage, *args, **options)
        except BaseError as error:
            raise DatasetError(f"{storage.url}: {_cause(error)}") from None

    return call


def _cause(error: Exception) -> str:
    text = str(error)
    said = " ".join(next((line for line in text.splitlines() if line.strip()), type(error).__name__).split())[:300]
    if "169.254.169.254" in text or "metadata.google.internal" in text:  # where clouds hand out those of a machine
        return (
            "no credentials were found, and this machine has none of its own; set those of the store (of S3: "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket)"
        )
    if type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
        return f"the store refuses these credentials ({said}); check them, and what they may do"
    return f"the store did not do what it was asked ({said}); check the URL, the network and AWS_ENDPOINT"


class ObjectStorage:
    """A prefix of an object store (S3, GCS, Azure), through obstore."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        with needed_packages(url):
            import obstore.store
        try:
            self._store: Any = obstore.store.from_url(self._url)
        except Exception as error:  # obstore's own classes, one for each store
            raise DatasetError(f"{url}: cannot be opened ({' '.join(str(error).split())}); check the URL") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectStorage, (self._url,)

    @property
    def url(self) -> str:
        """The URL."""
        return self._url

    @property
    def staging(self) -> Path:
        """A folder of this user's cache, the same for each process that writes to this URL."""
        return cache_folder() / "vla" / "staging" / hashlib.blake2b(self._url.encode(), digest_size=8).hexdigest()

    @_explained
    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """See `Storage.read`."""
        import obstore
        from obstore.exceptions import BaseError

        if size is None and start == 0:
            return bytes(obstore.get(self._store, name).bytes())
        if start < 0 or size is None:
            end = int(obstore.head(self._store, name)["size"])
            start = max(0, end + start) if start < 0 else start
            size = max(0, end - start) if size is None else size
        if not size:
            return b""
        try:
            return bytes(obstore.get_range(self._store, name, start=start, length=size))
        except BaseError:
            if start >= int(obstore.head(self._store, name)["size"]):
                return b""  # S3 answers a range behind the end with an error
            raise

    def read_into(self, name: str, start: int, *buffers: Any) -> int:
        """See `Storage.read_into`."""
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        data = self.read(name, start, sum(len(view) for view in views))
        position = 0
        for view in views:
            part = data[position : position + len(view)]
            view[: len(part)] = part
            position += len(part)
        return position

    @_explained
    def put_if_absent(self, name: str, data: bytes) -> bool:
        """A conditional put (``If-None-Match: *``)."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            obstore.put(self._store, name, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    @_explained
    def install(self, folder: Path, name: str) -> None:
        """Upload every file, the commit record last, then remove the local folder."""
        import obstore

        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files.sort(key=lambda path: path == folder / COMMIT)
        for path in files:
            obstore.put(self._store, f"{name}/{path.relative_to(folder).as_posix()}", path)
        shutil.rmtree(folder, ignore_errors=True)

    @_explained
    def children(self, folder: str) -> list[str]:
        """See `Storage.children`."""
        import obstore

        listing = obstore.list_with_delimiter(self._store, f"{folder}/" if folder else None)
        paths = [*listing["common_prefixes"], *(entry["path"] for entry in listing["objects"])]
        return sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths)

    @_explained
    def sizes(self, folder: str) -> dict[str, int]:
        """See `Storage.sizes`."""
        import obstore

        entries = [entry for page in obstore.list(self._store, f"{folder}/") for entry in page]
        return {str(entry["path"]).removeprefix(f"{folder}/"): int(entry["size"]) for entry in entries}

    @_explained
    def move(self, name: str, target: str) -> None:
        """Copy and delete each object: the commit record is deleted first and copied last."""
        import obstore

        names = sorted(self.sizes(name), key=lambda file: file == COMMIT)
        copied = [(f"{name}/{file}", f"{target}/{file}") for file in names] or [(name, target)]
        for old, new in copied:
            obstore.copy(self._store, old, new)
        for old, _ in reversed(copied):
            obstore.delete(self._store, old)
