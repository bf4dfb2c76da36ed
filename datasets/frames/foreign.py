"""Arrays that somebody packed otherwise than we do, read through zarr-python: within their folder, and bounded.

zarr-python follows links and unpacks whatever a chunk announces. So its files come through `Storage`, and before a
chunk is handed to it, what the chunk unpacks to is compared with what the metadata promise, and that with a limit.
"""

import math
import zlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import imagecodecs
import numpy as np
import zarr
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from vla.core.sealed import DamageError, listed, table, text, whole
from vla.datasets.frames.codecs import announced_size
from vla.datasets.storage.storage import Storage

_MOST_CHUNK = 2**28
"""Bytes that a chunk may unpack to."""
_MOST_CHUNKS = 2**20
_ZSTD_MAGIC, _GZIP_MAGIC = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"


def open_foreign(storage: Storage, array: str, metadata: dict[str, Any], dtype: str) -> "zarr.Array[Any]":
    """The array at ``array``, whose ``zarr.json`` was read as ``metadata`` and is of this dtype and a checked shape."""
    return zarr.open_array(_Bounded(storage, array, _chunk_bytes(metadata, dtype), _codecs(metadata)), mode="r")


def _chunk_bytes(metadata: dict[str, Any], dtype: str) -> int:
    """What one chunk unpacks to; a `DamageError` if that, or the number of chunks, is absurd."""
    shape = listed(metadata.get("shape"), "shape", whole)
    grid = table(metadata.get("chunk_grid"), "chunk_grid")
    sides = table(grid.get("configuration"), "chunk_grid").get("chunk_shape")
    chunk = listed(sides, "chunk_shape", lambda side, what: whole(side, what, least=1))
    if len(chunk) != len(shape):
        raise DamageError(f"chunk_shape: expected {len(shape)} numbers, got {len(chunk)}")
    size = math.prod(chunk) * np.dtype(dtype).itemsize
    if size > _MOST_CHUNK or math.prod(-(-n // c) for n, c in zip(shape, chunk, strict=True)) > _MOST_CHUNKS:
        raise DamageError(f"chunk_shape {list(chunk)} of {list(shape)}: chunks that are too large, or too many")
    return size


def _codecs(metadata: dict[str, Any]) -> frozenset[str]:
    """The names of all codecs, those within shards too; one whose output cannot be bounded is a `DamageError`."""
    names: set[str] = set()

    def collect(codecs: object) -> None:
        for codec in listed(codecs, "codecs", table):
            name = text(codec.get("name"), "codecs")
            names.add(name)
            if name == "sharding_indexed":
                inner = table(codec.get("configuration"), "codecs")
                collect(inner.get("codecs"))

    collect(metadata.get("codecs"))
    unbounded = sorted(name for name in names if name.startswith("numcodecs."))
    if unbounded or len(names & {"zstd", "gzip", "blosc"}) > 1:
        raise DamageError(f"codecs {sorted(names)}: what they unpack to cannot be bounded; pack it with zstd or gzip")
    return frozenset(names)


def _refuse_bomb(data: bytes, codecs: frozenset[str], most: int) -> None:
    """Raise `DamageError` if a chunk unpacks to more than ``most`` bytes."""
    found = len(data)
    if "zstd" in codecs and data.startswith(_ZSTD_MAGIC):
        announced = announced_size(memoryview(data))
        found = most if announced is None else announced
        if announced is None:
            imagecodecs.zstd_decode(data, out=bytearray(most))  # raises where it is more
    elif "gzip" in codecs and data.startswith(_GZIP_MAGIC):
        found = len(zlib.decompressobj(wbits=31).decompress(data, most + 1))
    elif "blosc" in codecs and len(data) >= 8:
        found = int.from_bytes(data[4:8], "little")
    if found > most + 2**16:
        raise DamageError(f"a chunk unpacks to {found} bytes or more, expected {most}")


class _Bounded(Store):
    """An array's folder, read through `Storage`."""

    supports_writes = supports_deletes = supports_listing = False

    def __init__(self, storage: Storage, array: str, most: int, codecs: frozenset[str]) -> None:
        super().__init__(read_only=True)
        self._storage, self._array, self._most, self._codecs = storage, array, most, codecs

    def __eq__(self, other: object) -> bool:
        return self is other

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """See `Store.get`."""
        start, size = 0, 2 * self._most + 2**20
        if isinstance(byte_range, RangeByteRequest):
            start, size = byte_range.start, min(size, byte_range.end - byte_range.start)
        elif isinstance(byte_range, OffsetByteRequest):
            start = byte_range.offset
        elif byte_range is not None:
            start = -byte_range.suffix
        try:
            data = self._storage.read(f"{self._array}/{key}", start, size)
        except FileNotFoundError:
            return None
        if not key.endswith("zarr.json"):
            _refuse_bomb(data, self._codecs, self._most)
        return (prototype or default_buffer_prototype()).buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """See `Store.get_partial_values`."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """See `Store.exists`."""
        try:
            self._storage.read(f"{self._array}/{key}", 0, 1)
        except FileNotFoundError:
            return False
        return True

    async def set(self, key: str, value: Buffer) -> None:
        """Never."""
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        """Never."""
        raise NotImplementedError

    def list(self) -> AsyncIterator[str]:
        """Never."""
        raise NotImplementedError

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Never."""
        raise NotImplementedError

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Never."""
        raise NotImplementedError
