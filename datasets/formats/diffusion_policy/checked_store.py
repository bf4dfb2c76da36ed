"""A Zarr version 2 store that refuses chunks which are missing or cut short.

Version 2 has no checksums, takes a missing chunk for zeros, and its Blosc decoder reads beyond the end of a chunk that
is cut short (numcodecs 0.16): a copy that broke off would give wrong numbers without a word.
"""

import json
import re
from typing import Any

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from vla.core.errors import DatasetError

_CHUNK = re.compile(r"(?P<array>.+)/\d+([./]\d+)*")
_BLOSC_HEADER = 16
"""Bytes; the last four are the size of the whole, as a little-endian number (c-blosc, README_CHUNK_FORMAT)."""


class CheckedStore(WrapperStore[Store]):
    """Reads through another store; a bad chunk is a `DatasetError` that names it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._blosc: dict[str, bool] = {}
        """For each array that was opened whether Blosc is its compressor."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """See `Store.get`."""
        value = await super().get(key, prototype, byte_range)
        if key.endswith("/.zarray") and value is not None:
            self._blosc[key.removesuffix("/.zarray")] = _uses_blosc(value.to_bytes())
        match = _CHUNK.fullmatch(key)
        if match is not None and match["array"] in self._blosc and byte_range is None:
            self._check(key, value, blosc=self._blosc[match["array"]])
        return value

    def _check(self, key: str, value: Buffer | None, *, blosc: bool) -> None:
        if value is None:
            raise DatasetError(
                f"{self._store}: chunk {key} is missing: a copy broke off, or zarr-python 3 left out a chunk of zeros; "
                "copy it again, or write the array with write_empty_chunks"
            )
        if not blosc:
            return
        written = int.from_bytes(value[12:_BLOSC_HEADER].to_bytes(), "little")
        if len(value) < _BLOSC_HEADER or written != len(value):
            raise DatasetError(f"{self._store}: chunk {key}: expected {written} bytes, got {len(value)}; copy it again")


def _uses_blosc(description: bytes) -> bool:
    try:
        value: Any = json.loads(description)
        return bool(value["compressor"]["id"] == "blosc" and not value.get("filters"))
    except (ValueError, TypeError, KeyError):
        return False
