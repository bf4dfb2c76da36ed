"""Writes the image array of one camera as shard files of the Zarr v3 ``sharding_indexed`` codec.

zarr-python writes the metadata; the shards are encoded here, because its per-chunk pipeline costs ten times the
compression.
Shard layout: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed
"""

import struct
from pathlib import Path

import google_crc32c
import numcodecs
import numpy as np
import zarr
from jaxtyping import UInt8
from zarr.codecs import ZstdCodec

from vla.datasets.layout import SHARD_FRAMES, ZSTD_LEVEL

MISSING = 2**64 - 1
"""Offset and length of an inner chunk that a shard does not hold."""


class ShardWriter:
    """Compresses frames as they come and writes a file for every ``shard_frames`` of them."""

    def __init__(self, group: zarr.Group, name: str, folder: Path, *, shard_frames: int = SHARD_FRAMES) -> None:
        """``folder`` is where ``group[name]`` lies on disk."""
        self._group = group
        self._name = name
        self._folder = folder
        self._shard_frames = shard_frames
        self._codec = numcodecs.Zstd(level=ZSTD_LEVEL, checksum=True)
        self._pending: list[bytes] = []
        self._shards = 0

    def append(self, frames: UInt8[np.ndarray, "t y x 3"]) -> None:
        """Add frames; full shards go to disk."""
        for frame in frames:
            self._pending.append(self._codec.encode(np.ascontiguousarray(frame)))
            if len(self._pending) == self._shard_frames:
                self._flush()

    def close(self, frame_shape: tuple[int, int, int]) -> int:
        """Write the last shard and the metadata of the array; return its number of frames, each (y, x, 3)."""
        frames = self._shards * self._shard_frames + len(self._pending)
        if self._pending:
            self._flush()
        self._group.create_array(
            self._name,
            shape=(frames, *frame_shape),
            dtype="uint8",
            chunks=(1, *frame_shape),
            shards=(self._shard_frames, *frame_shape),
            compressors=ZstdCodec(level=ZSTD_LEVEL, checksum=True),
            dimension_names=("time", "y", "x", "rgb"),
            config={"write_empty_chunks": True},
        )
        return frames

    def _flush(self) -> None:
        """Write the pending frames as one shard: the chunks, their index, the index's crc32c."""
        index = np.full((self._shard_frames, 2), MISSING, "<u8")
        sizes = np.array([len(chunk) for chunk in self._pending], "<u8")
        index[: len(sizes), 0] = np.cumsum(sizes) - sizes
        index[: len(sizes), 1] = sizes
        table = index.tobytes()
        path = self._folder / "c" / str(self._shards) / "0" / "0" / "0"
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            file.writelines(self._pending)
            file.write(table + struct.pack("<I", google_crc32c.value(table)))
        self._shards += 1
        self._pending = []
