"""The documents of a dataset: JSON that carries its own checksum, of a format version that this software reads."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from vla.core import sealed
from vla.core.errors import DatasetError
from vla.core.files import NotPlainError, plain_name
from vla.core.sealed import MOST_BYTES, DamageError
from vla.datasets.storage.storage import Storage

FORMAT_VERSION = "2.0"

T = TypeVar("T")


class FormatVersionError(DatasetError):
    """Whole, but written by a version of vla that this one does not read."""


def encode(value: dict[str, Any]) -> bytes:
    """A document of today's version, with its checksum."""
    return sealed.encode(value, FORMAT_VERSION)


def read_document(
    storage: Storage, name: str, *, missing: str, damaged: str, reads: str = FORMAT_VERSION
) -> dict[str, Any]:
    """Read what `encode` made; ``missing`` and ``damaged`` say how to fix either.

    A document of another major version than ``reads`` is a `FormatVersionError`.
    """
    return decode(storage, name, read_raw(storage, name, missing=missing), damaged=damaged, reads=reads)


def read_raw(storage: Storage, name: str, *, missing: str) -> bytes:
    """The bytes of a document, not many more than the largest that is ever written."""
    try:
        return storage.read(name, 0, MOST_BYTES + 1)
    except FileNotFoundError:
        raise DatasetError(f"{storage.url}/{name} does not exist. {missing}") from None


def decode(storage: Storage, name: str, data: bytes, *, damaged: str, reads: str = FORMAT_VERSION) -> dict[str, Any]:
    """What the bytes of a document say."""
    where = f"{storage.url}/{name}"

    def check_version(version: object) -> None:
        _check_version(version, where, reads, f"vla data upgrade {storage.url}")

    try:
        return sealed.decode(data, check_version)
    except DamageError as error:
        raise DatasetError(f"{where} is damaged: {error}. {damaged}") from None


def parsed(where: str, value: dict[str, Any], parse: Callable[[dict[str, Any]], T], *, fix: str) -> T:
    """What ``parse`` makes of a document; what it finds odd is a `DatasetError` that says where and how to mend it."""
    try:
        return parse(value)
    except (DamageError, NotPlainError) as error:
        raise DatasetError(f"{where} is damaged ({error}); {fix}") from None


def segment_id(value: object, what: str) -> str:
    """The id of a segment: a plain name that is not hidden, as what is not sealed yet is."""
    name = plain_name(value)
    if name.startswith("."):
        raise DamageError(f"{what}: {name!r} is no segment")
    return name


def _check_version(version: object, where: str, reads: str, upgrade: str) -> None:
    """Refuse another major version; an older one can be converted."""
    if not isinstance(version, str) or not re.fullmatch(r"[0-9]{1,4}\.[0-9]{1,4}", version):
        raise DatasetError(f"{where}: expected a format_version such as {reads!r}, got {str(version)[:40]!r}")
    theirs, ours = int(version.split(".")[0]), int(reads.split(".")[0])
    if theirs != ours:
        fix = f"convert it with {upgrade}" if theirs < ours else "use a version of vla that reads it"
        raise FormatVersionError(f"{where}: format version {version}, this software reads {ours}.x; {fix}")
