"""JSON files that carry their own checksum: a bit that flips anywhere in one is noticed when it is read."""

import json
import re
from typing import Any

import google_crc32c

from vla.core.errors import DatasetError
from vla.datasets.storage.storage import Storage

FORMAT_VERSION = "2.0"


class FormatVersionError(DatasetError):
    """Whole, but written by a version of vla that this one does not read."""


_SEAL = b'"checksum": "%s"\n}\n'
_OPEN = _SEAL % b"00000000"
_SEALED = re.compile(rb'"checksum": "([0-9a-f]{8})"\n\}\n\Z')


def encode(value: dict[str, Any]) -> bytes:
    """Indented JSON whose last entry is the crc32c of its bytes, taken with zeros in the place of the checksum."""
    value = {"format_version": FORMAT_VERSION, **value, "checksum": "00000000"}
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    data = text.encode()
    assert data.endswith(_OPEN), data[-40:]
    return data[: -len(_OPEN)] + _SEAL % (b"%08x" % google_crc32c.value(data))


def read_document(
    storage: Storage, name: str, *, missing: str, damaged: str, reads: str = FORMAT_VERSION
) -> dict[str, Any]:
    """Read what `encode` made; ``missing`` and ``damaged`` say how to fix either.

    A document of another major version than ``reads`` is a `FormatVersionError`.
    """
    where = f"{storage.url}/{name}"
    try:
        data = storage.read(name)
    except (FileNotFoundError, NotADirectoryError):
        raise DatasetError(f"{where} does not exist. {missing}") from None
    try:
        value = json.loads(data)
    except ValueError as error:
        raise DatasetError(f"{where} is damaged: {error}. {damaged}") from None
    if not isinstance(value, dict):
        raise DatasetError(f"{where} is damaged: expected a JSON object, got {type(value).__name__}. {damaged}")
    seal = _SEALED.search(data)
    if seal and b"%08x" % google_crc32c.value(data[: seal.start()] + _OPEN) != seal[1]:
        raise DatasetError(f"{where} is damaged: it fails its checksum. {damaged}")
    # Before its checksum is missed: other versions need not have this one.
    _check_version(value.pop("format_version", None), where, reads, f"vla data upgrade {storage.url}")
    if seal is None:
        raise DatasetError(f"{where} is damaged: it does not end with a checksum. {damaged}")
    del value["checksum"]
    return value


def _check_version(version: object, where: str, reads: str, upgrade: str) -> None:
    """Refuse another major version; an older one can be converted."""
    if not isinstance(version, str) or not re.fullmatch(r"\d+\.\d+", version):
        raise DatasetError(f"{where}: expected a format_version such as {reads!r}, got {version!r}")
    theirs, ours = int(version.split(".")[0]), int(reads.split(".")[0])
    if theirs != ours:
        fix = f"convert it with {upgrade}" if theirs < ours else "use a version of vla that reads it"
        raise FormatVersionError(f"{where}: format version {version}, this software reads {ours}.x; {fix}")
