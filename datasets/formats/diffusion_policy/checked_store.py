"""A Zarr store, of version 2 or 3, that refuses what zarr-python would make up.

A chunk that is missing reads as the fill value, and nothing in a store tells a chunk that was lost from one that a
writer left out because it held nothing else; only the index of a shard does, and there zarr-python is right. So a
missing chunk is refused. Version 2 has no checksums, and its Blosc decoder reads beyond the end of a chunk that is cut
short (numcodecs 0.16). A codec may also be one that nobody here has, or run programs (pickle).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from vla.core.errors import DatasetError

_METADATA = frozenset({".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json"})
_NEEDED = ("shape", "chunks", "dtype", "compressor", "fill_value", "order", "filters")
"""What version 2 asks of the description of an array."""
_BLOSC_HEADER = 16
"""Bytes; the last four are the size of the whole, as a little-endian number (c-blosc, README_CHUNK_FORMAT)."""
_LFS = b"version https://git-lfs"


@dataclass(frozen=True, kw_only=True)
class _Array:
    """How the chunks of one array are kept."""

    blosc: bool
    """Whether Blosc packs whole chunks, so that each says its size."""
    flat: bool
    """Version 2 with "." between the places of a chunk."""


class StoreError(DatasetError):
    """What is wrong with one key of a store; callers say of which."""


class CheckedStore(WrapperStore[Store]):
    """Reads through another store; a bad description or chunk is a `StoreError` that names it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._arrays: dict[str, _Array] = {}
        """Those whose description was read, by path."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """See `Store.get`."""
        value = await super().get(key, prototype, byte_range)
        folder, _, name = key.rpartition("/")
        if name in _METADATA:
            if value is not None and name in (".zarray", "zarr.json"):
                self._describe(folder, key, value.to_bytes())
            return value
        array = self._array_of(key)
        if array is None:
            return value
        if value is None and self._arrays[array].flat:  # written nested by a zarr-python that did not say so (2.7)
            nested = f"{array}/{key.removeprefix(array + '/').replace('.', '/')}"
            value = await super().get(nested, prototype, byte_range)
        self._check(key, value, blosc=self._arrays[array].blosc and byte_range is None)
        return value

    def _describe(self, folder: str, key: str, text: bytes) -> None:
        """Learn from the description of an array how its chunks are kept."""
        try:
            value: Any = json.loads(text)
        except ValueError as error:
            raise StoreError(f"{key} is no JSON ({error}): copy it again") from None
        if not isinstance(value, dict):
            raise StoreError(f"{key}: expected a JSON object, got {text[:40]!r}: copy it again")
        if key.endswith("zarr.json"):
            if value.get("node_type") == "array":
                codecs = list(_codecs_of(value))
                self._refuse(folder, codecs, _has_v3)
                whole = value.get("codecs") or [{}]
                self._arrays[folder] = _Array(blosc=_name(whole[-1]) == "blosc", flat=False)
            return
        if missing := [one for one in _NEEDED if one not in value]:
            raise StoreError(f"{key} lacks {', '.join(missing)}: it was not written by Zarr; restore it")
        filters = value["filters"] or []
        self._refuse(folder, [codec for codec in (value["compressor"], *filters) if codec], _has_v2)
        blosc = _name(value["compressor"]) == "blosc" and not filters
        self._arrays[folder] = _Array(blosc=blosc, flat=value.get("dimension_separator", ".") == ".")

    def _refuse(self, folder: str, codecs: list[Any], has: Any) -> None:
        for codec in codecs:
            name = _name(codec)
            if name.rpartition(".")[2] == "pickle":
                raise StoreError(
                    f"{folder} is packed with pickle, which may run any program when it is read: "
                    "write it anew as numbers"
                )
            if not has(codec):
                raise StoreError(
                    f"{folder} is packed with the codec {name!r}, which numcodecs, imagecodecs and zarr "
                    "do not have here: install the package that brings it"
                )

    def _array_of(self, key: str) -> str | None:
        """The path of the array that a key belongs to: chunks may lie in folders below it."""
        while key:
            key = key.rpartition("/")[0]
            if key in self._arrays:
                return key
        return None

    def _check(self, key: str, value: Buffer | None, *, blosc: bool) -> None:
        if value is None:
            raise StoreError(
                f"chunk {key} is missing: a copy broke off, or zarr-python 3 left out a chunk of zeros; "
                "copy it again, or write the array with write_empty_chunks"
            )
        if value[: len(_LFS)].to_bytes() == _LFS:
            raise StoreError(f"chunk {key} is a Git LFS pointer: fetch it with git lfs pull")
        if not blosc:
            return
        if len(value) < _BLOSC_HEADER:
            raise StoreError(f"chunk {key} is cut short to {len(value)} bytes; copy it again")
        written = int.from_bytes(value[12:_BLOSC_HEADER].to_bytes(), "little")
        if written != len(value):
            raise StoreError(f"chunk {key}: expected {written} bytes, got {len(value)}; copy it again")


def _name(codec: Any) -> str:
    """What a codec is called: in version 2 its ``id``, in version 3 its ``name``."""
    if isinstance(codec, Mapping):
        return str(codec.get("id") or codec.get("name") or "")
    return str(codec or "")


def _codecs_of(description: Mapping[str, Any]) -> Iterator[Any]:
    """Those of an array of version 3, and of the chunks within its shards."""
    for codec in description.get("codecs") or []:
        yield codec
        configuration = codec.get("configuration") if isinstance(codec, Mapping) else None
        if isinstance(configuration, Mapping):
            yield from _codecs_of(configuration)


def _has_v2(codec: Any) -> bool:
    from numcodecs.registry import codec_registry, entries

    return _name(codec) in codec_registry or _name(codec) in entries


def _has_v3(codec: Any) -> bool:
    from zarr.registry import get_codec_class

    try:
        get_codec_class(_name(codec))
    except (KeyError, ValueError):
        return False
    return True
