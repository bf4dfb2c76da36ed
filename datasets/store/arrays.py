"""Arrays of one chunk, zstd with a checksum: the low-dimensional half of a segment, read and written whole.

zarr-python writes the metadata once for each kind of array and reads what is packed otherwise; a segment has ten such
arrays, and at 3 ms each they would be most of the time that opening or sealing many small segments takes.
"""

import functools
import itertools
import json
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.storage import MemoryStore

from vla.core.errors import DatasetError
from vla.core.sealed import MOST_BYTES, listed, parse_json, whole
from vla.datasets.frames.codecs import ZSTD_LEVEL, unpack_zstd
from vla.datasets.frames.foreign import open_foreign
from vla.datasets.storage.storage import Storage
from vla.datasets.store.layout import Commit, read_checked, segment_name

_ZSTD = numcodecs.Zstd(level=ZSTD_LEVEL, checksum=True)
_FIX = "run vla data repair, or restore the segment from a copy"


def write_array(folder: Path, array: np.ndarray, dimensions: tuple[str, ...]) -> None:
    """Write an array with at least one element as the Zarr array ``folder``; ``dimensions`` names its axes."""
    assert array.size, folder
    value = json.loads(_template(array.dtype.name, dimensions))
    value["shape"] = value["chunk_grid"]["configuration"]["chunk_shape"] = list(array.shape)
    chunk = folder.joinpath("c", *["0"] * array.ndim)
    chunk.parent.mkdir(parents=True, exist_ok=True)  # `recover` may find a half-written one
    chunk.write_bytes(_ZSTD.encode(np.ascontiguousarray(array)))
    (folder / "zarr.json").write_text(json.dumps(value, indent=2), encoding="utf-8")


def write_group(folder: Path, attributes: dict[str, Any]) -> None:
    """Write the metadata of a Zarr group."""
    folder.mkdir(parents=True, exist_ok=True)
    value = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "zarr.json").write_text(text, encoding="utf-8")


def read_array(storage: Storage, name: str, *, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Read a whole array; one that is damaged, or of another shape or dtype, is a `DatasetError`."""
    where = f"{storage.url}/{name}"
    try:
        metadata = parse_json(storage.read(f"{name}/zarr.json", 0, MOST_BYTES + 1))
        found = listed(metadata["shape"], "shape", whole), metadata["data_type"]
        if found != (shape, dtype):
            raise DatasetError(f"{where}: expected {dtype} {shape}, got {found[1]} {found[0]}; {_FIX}")
        if not _is_plain(metadata):
            return _read_foreign(storage, name, metadata, dtype)
        array = np.empty(shape, np.dtype(dtype).newbyteorder("<"))
        unpack_zstd(storage.read("/".join([name, "c", *["0"] * len(shape)]), 0, 2 * array.nbytes + 2**16), array)
        return array
    except DatasetError:
        raise
    except Exception as error:  # damage may raise anything in a decoder
        raise DatasetError(f"{where}: cannot be read ({' '.join(str(error).split())}); {_FIX}") from None


def _is_plain(metadata: dict[str, Any]) -> bool:
    """Whether an array is packed as `write_array` does it."""
    codecs, keys = metadata["codecs"], metadata["chunk_key_encoding"]
    return (
        metadata["chunk_grid"]["configuration"]["chunk_shape"] == metadata["shape"]
        and [codec["name"] for codec in codecs] == ["bytes", "zstd"]
        and codecs[0].get("configuration", {}).get("endian", "little") == "little"
        and (keys["name"], keys.get("configuration", {}).get("separator", "/")) == ("default", "/")
    )


def read_checked_array(
    storage: Storage, segment: str, commit: Commit, name: str, *, shape: tuple[int, ...], dtype: str
) -> np.ndarray:
    """An array of a sealed segment, below its ``data.zarr``, if its files are those of the commit record."""
    array = f"data.zarr/{name}"
    for file in (f"{array}/zarr.json", "/".join([array, "c", *["0"] * len(shape)])):
        read_checked(storage, segment, commit, file)
    return read_array(storage, f"{segment_name(segment)}/{array}", shape=shape, dtype=dtype)


def _read_foreign(storage: Storage, name: str, metadata: dict[str, Any], dtype: str) -> np.ndarray:
    """What somebody wrote otherwise; missing chunks are refused, because zarr-python would read them as zeros."""
    array = open_foreign(storage, name, metadata, dtype)
    grid = array.shards or array.chunks
    counts = [-(-n // size) for n, size in zip(array.shape, grid, strict=True)]
    for place in itertools.product(*map(range, counts)):
        try:
            storage.read(f"{name}/{array.metadata.encode_chunk_key(place)}", 0, 1)
        except FileNotFoundError:
            raise DatasetError(f"{storage.url}/{name}: chunks are missing; {_FIX}") from None
    return np.asarray(array[...])


@functools.lru_cache(maxsize=64)
def _template(dtype: str, dimensions: tuple[str, ...]) -> str:
    """The metadata of an array of this kind with one element."""
    store, shape = MemoryStore(), (1,) * len(dimensions)
    codec = ZstdCodec(level=ZSTD_LEVEL, checksum=True)
    zarr.create_array(
        store, shape=shape, chunks=shape, dtype=dtype, compressors=codec, filters=None, dimension_names=dimensions
    )
    return store._store_dict["zarr.json"].to_bytes().decode()
