"""Writes the frames of one episode and camera as one shard of the Zarr v3 ``sharding_indexed`` codec, frame by frame.

The shard's index stands at its end, so frames are appended to the file as they come, and nothing is held in RAM but
16 bytes a frame. zarr-python writes the metadata; the shard is encoded here, because its per-chunk pipeline costs ten
times the compression. Layout: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed
"""

import functools
import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import ShardingCodec
from zarr.storage import MemoryStore

from vla.core.contract import Camera
from vla.core.files import write_all
from vla.datasets.frames.codecs import frame_codec

MISSING = 2**64 - 1
"""Offset and length of an inner chunk that a shard does not hold."""


OWNER_BYTES = 16


def owner_of(content_hash: str, camera: str) -> bytes:
    """Whose frames a shard holds: of two that change places each is whole, and neither is of its episode."""
    return hashlib.blake2b(f"{content_hash}/{camera}".encode(), digest_size=OWNER_BYTES).digest()


class ShardWriter:
    """Appends encoded frames to a growing shard file, and closes it with its index and the array's metadata."""

    def __init__(self, array: Path, camera: Camera, codec: str) -> None:
        """``array`` is the folder of the Zarr array to be; an unfinished shard in it is continued by `resume`."""
        self._array, self._camera, self._codec = array, camera, codec
        self.path = array / "c" / "0" / "0" / "0" / "0"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab", buffering=0)
        self._sizes: list[int] = []

    def __len__(self) -> int:
        """The number of frames."""
        return len(self._sizes)

    def append(self, chunk: bytes) -> None:
        """Add one encoded frame; it is in the file, though not flushed to disk, when this returns."""
        write_all(self._file, chunk)
        self._sizes.append(len(chunk))

    def resume(self, sizes: list[int]) -> None:
        """Keep the first frames of an unfinished shard, of these sizes, and drop what follows."""
        self._file.truncate(sum(sizes))
        self._sizes = list(sizes)

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        os.fsync(self._file.fileno())

    def close(self, owner: bytes = b"") -> None:
        """Write `owner_of` the frames if it is known, the index, its crc32c, and the metadata of the array.

        The owner lies between the last frame and the index, where other readers of Zarr do not look.
        """
        assert len(owner) in (0, OWNER_BYTES), owner
        sizes = np.array(self._sizes, "<u8")
        index = np.stack([np.cumsum(sizes, dtype="<u8") - sizes, sizes], axis=1).tobytes()
        with self._file as file:
            write_all(file, owner + index + struct.pack("<I", google_crc32c.value(index)))
        text = json.dumps(_metadata(self._camera, self._codec, len(self._sizes)), indent=2)
        (self._array / "zarr.json").write_text(text, encoding="utf-8")

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.close()


def _metadata(camera: Camera, codec: str, frames: int) -> dict[str, Any]:
    """What zarr-python writes for such an array."""
    value: dict[str, Any] = json.loads(_template(camera, codec))
    value["shape"][0] = frames
    value["chunk_grid"]["configuration"]["chunk_shape"][0] = frames
    return value


@functools.lru_cache(maxsize=64)
def _template(camera: Camera, codec: str) -> str:
    """The metadata of an array of one frame: zarr-python takes a millisecond to make them."""
    store = MemoryStore()
    zarr.create_array(
        store,
        shape=(1, *camera.shape),
        dtype=camera.dtype,
        chunks=(1, *camera.shape),
        serializer=ShardingCodec(chunk_shape=(1, *camera.shape), codecs=frame_codec(codec, camera).zarr()),
        compressors=None,
        filters=None,
        dimension_names=("time", "y", "x", "channel"),
        config={"write_empty_chunks": True},
    )
    return store._store_dict["zarr.json"].to_bytes().decode()
