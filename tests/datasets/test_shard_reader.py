"""Our reader against zarr-python on the same files, and against damaged ones."""

import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec

from vla.core.errors import DatasetError
from vla.datasets.shard_reader import ShardReader

ZSTD = ZstdCodec(level=3, checksum=True)
CHAINS = {
    "raw": [],
    "crc": [Crc32cCodec()],
    "zstd": [ZSTD],
    "zstd-crc": [ZSTD, Crc32cCodec()],
    "blosc": [BloscCodec(typesize=1)],
    "gzip": [GzipCodec()],
}


def frames(count: int = 10) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 6, 8, 3), np.uint8)


def write(path: Path, images: np.ndarray, chain: list[Any], **changes: Any) -> Path:
    options: dict[str, Any] = {"chunks": (1, 6, 8, 3), "shards": (4, 6, 8, 3), "config": {"write_empty_chunks": True}}
    group = zarr.open_group(path, mode="w", zarr_format=3)
    array = group.create_array(
        "front", shape=images.shape, dtype=images.dtype, compressors=chain, **{**options, **changes}
    )
    array[...] = images
    return path / "front"


def shard(array: Path, number: int = 0) -> Path:
    return array / "c" / str(number) / "0" / "0" / "0"


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("shards", [(4, 6, 8, 3), (16, 6, 8, 3), None])
def test_reads_what_zarr_wrote(tmp_path: Path, chain: str, shards: Any) -> None:
    images = frames()
    reader = ShardReader(write(tmp_path / "a b.zarr", images, CHAINS[chain], shards=shards))
    assert len(reader) == 10
    out = np.empty((4, 6, 8, 3), np.uint8)
    reader.frames(np.array([9, 0, 3, 4]), out)
    np.testing.assert_array_equal(out, images[[9, 0, 3, 4]])
    for index in (-1, 10):
        with pytest.raises(IndexError):
            reader.frame(index)


def test_survives_pickle_fork_and_spawn(tmp_path: Path) -> None:
    images = frames()
    reader = ShardReader(write(tmp_path / "a.zarr", images, [ZSTD]))
    reader.frame(0)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).frame(9), images[9])
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            np.testing.assert_array_equal(pool.apply(reader.frame, (5,)), images[5])
            pool.close()
            pool.join()


@pytest.mark.parametrize("chain", ["zstd", "zstd-crc", "crc"])
def test_no_flipped_bit_is_read_as_another_frame(tmp_path: Path, chain: str) -> None:
    images = frames(2)
    array = write(tmp_path / "a.zarr", images, CHAINS[chain])
    data = shard(array).read_bytes()
    start, size = np.frombuffer(data[-(4 * 16 + 4) :], "<u8", count=4)[2:]
    caught = 0
    for bit in range(int(start) * 8, int(start + size) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        shard(array).write_bytes(damaged)
        reader = ShardReader(array)
        np.testing.assert_array_equal(reader.frame(0), images[0])
        try:
            got = reader.frame(1)
        except DatasetError as error:
            caught += f"{shard(array)}, frame 1" in str(error)
        else:
            np.testing.assert_array_equal(got, images[1])  # some bits of zstd's header mean nothing
    assert caught >= size * 8 - 4


def test_every_flipped_bit_of_the_index_is_noticed(tmp_path: Path) -> None:
    array = write(tmp_path / "a.zarr", frames(4), [ZSTD])
    data = shard(array).read_bytes()
    for bit in range((len(data) - 68) * 8, len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        shard(array).write_bytes(damaged)
        with pytest.raises(DatasetError, match="index of the shard fails its checksum"):
            ShardReader(array).frame(0)


@pytest.mark.parametrize("chain", ["zstd", "blosc"])
def test_a_missing_frame_is_never_black(tmp_path: Path, chain: str) -> None:
    images = frames()
    images[5] = 0
    array = write(tmp_path / "a.zarr", images, CHAINS[chain], config={"write_empty_chunks": False})
    with pytest.raises(DatasetError, match="frame 5: the shard does not hold it"):
        ShardReader(array).frame(5)
    shard(array, 0).unlink()
    with pytest.raises(DatasetError, match="missing"):
        ShardReader(array).frame(0)
    loose = write(tmp_path / "b.zarr", images, CHAINS[chain], shards=None)
    shard(loose, 3).unlink()
    with pytest.raises(DatasetError, match="frame 3: the chunk is missing"):
        ShardReader(loose).frame(3)


def test_a_truncated_shard(tmp_path: Path) -> None:
    array = write(tmp_path / "a.zarr", frames(), [ZSTD])
    data = shard(array).read_bytes()
    for size in (0, 10, len(data) // 2, len(data) - 1):
        shard(array).write_bytes(data[:size])
        with pytest.raises(DatasetError, match=r"truncated|checksum"):
            ShardReader(array).frame(0)
    reader = ShardReader(array)
    shard(array).write_bytes(data)
    reader.frame(0)
    shard(array).write_bytes(data[:100])  # while it is open: an error, not a signal
    with pytest.raises(DatasetError, match="frame 3"):
        reader.frame(3)


def test_damaged_gzip_goes_through_zarr(tmp_path: Path) -> None:
    array = write(tmp_path / "a.zarr", frames(4), [GzipCodec()])
    data = bytearray(shard(array).read_bytes())
    data[60] ^= 1
    shard(array).write_bytes(data)
    with pytest.raises(DatasetError, match="frame 0"):
        ShardReader(array).frame(0)


def test_shards_that_cannot_be_checked_are_refused(tmp_path: Path) -> None:
    codec = ShardingCodec(chunk_shape=(1, 6, 8, 3), codecs=[BytesCodec(), ZSTD], index_location="start")
    array = tmp_path / "a.zarr"
    grid = (4, 6, 8, 3)
    zarr.create_array(array, shape=grid, dtype="uint8", chunks=grid, serializer=codec, compressors=None)
    with pytest.raises(DatasetError, match="checked index at their end"):
        ShardReader(array)


def test_metadata_is_checked(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        ShardReader(tmp_path / "nothing")
    array = write(tmp_path / "a.zarr", frames().astype(np.uint16), [ZSTD])
    with pytest.raises(DatasetError, match="expected uint8"):
        ShardReader(array)
    (array / "zarr.json").write_text("{")
    with pytest.raises(DatasetError, match="damaged"):
        ShardReader(array)
