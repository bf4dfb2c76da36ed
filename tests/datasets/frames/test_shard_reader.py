"""Our reader against zarr-python on the same files, and against damaged ones."""

import json
import multiprocessing
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec

from vla.core.contract import Camera
from vla.core.errors import DatasetError
from vla.datasets.frames.shard_reader import ShardReader
from vla.datasets.storage.storage import LocalStorage

ZSTD = ZstdCodec(level=3, checksum=True)
CHAINS: dict[str, list[Any]] = {
    "raw": [],
    "crc": [Crc32cCodec()],
    "zstd": [ZSTD],
    "zstd-crc": [ZSTD, Crc32cCodec()],
    "crc-zstd": [Crc32cCodec(), ZSTD],
    "zstd-zstd": [ZSTD, ZSTD],
    "blosc": [BloscCodec(typesize=1)],
    "gzip": [GzipCodec()],
}
RGB = Camera(name="front", height=6, width=8)
SMALL = Camera(name="front", height=3, width=5)
DEPTH = Camera(name="front", height=6, width=8, kind="depth")


def frames(count: int = 10, camera: Camera = RGB) -> NDArray[Any]:
    top = np.iinfo(camera.dtype).max + 1
    return np.random.default_rng(0).integers(0, top, (count, *camera.shape), np.dtype(camera.dtype))


def write(path: Path, images: NDArray[Any], chain: list[Any], **changes: Any) -> Path:
    shape = images.shape[1:]
    options: dict[str, Any] = {"chunks": (1, *shape), "shards": (4, *shape), "config": {"write_empty_chunks": True}}
    group = zarr.open_group(path, mode="w", zarr_format=3)
    array = group.create_array(
        "front", shape=images.shape, dtype=images.dtype, compressors=chain, **{**options, **changes}
    )
    array[...] = images
    return path / "front"


def open_array(array: Path, camera: Camera = RGB) -> ShardReader:
    return ShardReader(LocalStorage(array.parent), array.name, camera)


def read(reader: ShardReader, frame: int, camera: Camera = RGB) -> NDArray[Any]:
    out = np.empty(camera.shape, camera.dtype)
    reader.read_into(frame, out)
    return out


def shard(array: Path, number: int = 0) -> Path:
    return array / "c" / str(number) / "0" / "0" / "0"


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("shards", [4, 16, None])
@pytest.mark.parametrize("camera", [RGB, DEPTH], ids=["rgb", "depth"])
def test_reads_what_zarr_wrote(tmp_path: Path, chain: str, shards: int | None, camera: Camera) -> None:
    images = frames(camera=camera)
    grid = None if shards is None else (shards, *camera.shape)
    reader = open_array(write(tmp_path / "a b.zarr", images, CHAINS[chain], shards=grid), camera)
    assert len(reader) == 10
    for number in (9, 0, 3, 4):
        np.testing.assert_array_equal(read(reader, number, camera), images[number])
    for number in (-1, 10):
        with pytest.raises(IndexError, match=f"frame {number} of 10"):
            read(reader, number, camera)


SERIALIZERS: dict[str, list[Any]] = {
    "big endian": [BytesCodec(endian="big")],
    "big endian, zstd": [BytesCodec(endian="big"), ZSTD],
    "transposed": [TransposeCodec(order=(0, 2, 1, 3)), BytesCodec(endian="little"), ZSTD],
}


@pytest.mark.parametrize("how", SERIALIZERS)
def test_pixels_that_lie_otherwise(tmp_path: Path, how: str) -> None:
    images, shape = frames(camera=DEPTH), DEPTH.shape
    codec = ShardingCodec(chunk_shape=(1, *shape), codecs=SERIALIZERS[how])
    array = write(
        tmp_path / "a.zarr", images, [], shards=None, chunks=(4, *shape), serializer=codec, filters=None,
    )  # fmt: skip
    reader = open_array(array, DEPTH)
    for number in (0, 9):
        np.testing.assert_array_equal(read(reader, number, DEPTH), images[number])


def test_survives_pickle_fork_and_spawn(tmp_path: Path) -> None:
    images = frames()
    reader = open_array(write(tmp_path / "a.zarr", images, [ZSTD]))
    read(reader, 0)
    np.testing.assert_array_equal(read(pickle.loads(pickle.dumps(reader)), 9), images[9])
    for method in ("fork", "spawn"):
        out = np.empty(RGB.shape, np.uint8)
        with multiprocessing.get_context(method).Pool(1) as pool:
            pool.apply(reader.read_into, (5, out))  # raises unless the checksum is right
            pool.close()
            pool.join()


def test_threads_share_a_reader(tmp_path: Path) -> None:
    images = frames(40)
    for name in ("zstd", "crc", "gzip"):
        reader = open_array(write(tmp_path / name, images, CHAINS[name]))
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda number, reader=reader: read(reader, number), range(40)))
        np.testing.assert_array_equal(np.stack(found), images)


@pytest.mark.parametrize("chain", ["zstd", "zstd-crc", "crc"])
def test_no_flipped_bit_is_read_as_another_frame(tmp_path: Path, chain: str) -> None:
    images = frames(2, SMALL)
    array = write(tmp_path / "a.zarr", images, CHAINS[chain])
    data = shard(array).read_bytes()
    start, size = np.frombuffer(data[-(4 * 16 + 4) :], "<u8", count=4)[2:]
    caught = 0
    for bit in range(int(start) * 8, int(start + size) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        shard(array).write_bytes(damaged)
        reader = open_array(array, SMALL)
        np.testing.assert_array_equal(read(reader, 0, SMALL), images[0])
        try:
            got = read(reader, 1, SMALL)
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
            read(open_array(array), 0)


@pytest.mark.parametrize("chain", ["raw", "zstd", "blosc"])
def test_a_missing_frame_is_never_black(tmp_path: Path, chain: str) -> None:
    images = frames()
    images[5] = 0
    array = write(tmp_path / "a.zarr", images, CHAINS[chain], config={"write_empty_chunks": False})
    with pytest.raises(DatasetError, match="frame 5: the shard does not hold it"):
        read(open_array(array), 5)
    shard(array, 0).unlink()
    with pytest.raises(DatasetError, match="missing"):
        read(open_array(array), 0)
    loose = write(tmp_path / "b.zarr", images, CHAINS[chain], shards=None)
    shard(loose, 3).unlink()
    with pytest.raises(DatasetError, match="frame 3: the chunk is missing"):
        read(open_array(loose), 3)


@pytest.mark.parametrize("chain", ["raw", "crc", "zstd", "gzip"])
def test_a_truncated_shard(tmp_path: Path, chain: str) -> None:
    array = write(tmp_path / "a.zarr", frames(), CHAINS[chain])
    data = shard(array).read_bytes()
    for size in (0, 10, len(data) // 2, len(data) - 1):
        shard(array).write_bytes(data[:size])
        with pytest.raises(DatasetError, match=r"truncated|checksum"):
            read(open_array(array), 0)
    reader = open_array(array)
    shard(array).write_bytes(data)
    read(reader, 0)
    for size in (100, 0):  # while it is open: an error, not a signal
        shard(array).write_bytes(data[:size])
        with pytest.raises(DatasetError, match="frame 3"):
            read(reader, 3)
    shard(array).unlink()
    with pytest.raises(DatasetError, match="missing"):
        read(reader, 3)


@pytest.mark.parametrize("chain", ["raw", "crc"])
def test_an_index_that_lies_is_an_error(tmp_path: Path, chain: str) -> None:
    """Offsets and sizes that the checksum of the index confirms, and that no shard of such frames can have."""
    import google_crc32c

    array = write(tmp_path / "a.zarr", frames(4), CHAINS[chain])
    data = shard(array).read_bytes()
    index = np.frombuffer(data[-68:-4], "<u8").reshape(4, 2)
    for slot, value in [((2, 0), len(data)), ((2, 0), 2**63), ((2, 1), 2**40), ((2, 1), 0), ((2, 1), 3)]:
        wrong = index.copy()
        wrong[slot] = value
        tail = wrong.tobytes()
        shard(array).write_bytes(data[:-68] + tail + google_crc32c.value(tail).to_bytes(4, "little"))
        with pytest.raises(DatasetError, match=r"c/0/0/0/0, frame 2"):
            read(open_array(array), 2)


def test_damaged_gzip_goes_through_zarr(tmp_path: Path) -> None:
    array = write(tmp_path / "a.zarr", frames(4), [GzipCodec()])
    data = bytearray(shard(array).read_bytes())
    data[60] ^= 1
    shard(array).write_bytes(data)
    with pytest.raises(DatasetError, match="frame 0"):
        read(open_array(array), 0)


def test_shards_that_cannot_be_checked_are_refused(tmp_path: Path) -> None:
    grid = (4, *RGB.shape)
    cases: list[dict[str, Any]] = [
        {"index_location": "start"},
        {"index_codecs": [BytesCodec()]},
        {"chunk_shape": (2, *RGB.shape)},
        {"chunk_shape": (1, 3, 8, 3)},
    ]
    for number, case in enumerate(cases):
        codec = ShardingCodec(**{"chunk_shape": (1, *RGB.shape), "codecs": [BytesCodec(), ZSTD], **case})
        array = tmp_path / f"{number}.zarr"
        zarr.create_array(array, shape=grid, dtype="uint8", chunks=grid, serializer=codec, compressors=None)
        with pytest.raises(DatasetError, match="checked index at their end"):
            open_array(array)


def test_metadata_is_checked(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing/zarr\.json does not exist"):
        open_array(tmp_path / "nothing")
    array = write(tmp_path / "a.zarr", frames().astype(np.uint16), [ZSTD])
    with pytest.raises(DatasetError, match="expected uint8"):
        open_array(array)
    with pytest.raises(DatasetError, match=r"expected uint16 .*6, 8, 1.* got uint16 \(10, 6, 8, 3\)"):
        open_array(array, DEPTH)
    for text in ("{", "", "[]", "3", '{"shape": 3}', '{"shape": [10, 6, 8, 3], "data_type": "uint8"}', "\xff"):
        (array / "zarr.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(DatasetError, match=r"zarr\.json is damaged"):
            open_array(array)


def test_no_flipped_bit_of_the_metadata_shows_another_frame(tmp_path: Path) -> None:
    images = frames(3)
    array = write(tmp_path / "a.zarr", images, [ZSTD], shards=(3, *RGB.shape))
    data = (array / "zarr.json").read_bytes()
    out = np.empty(RGB.shape, np.uint8)
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr-python warns of members that it does not know
        for bit in range(0, 8 * len(data), 3):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            (array / "zarr.json").write_bytes(damaged)
            try:
                reader = open_array(array)
                for number in range(min(len(reader), 3)):
                    reader.read_into(number, out)
                    np.testing.assert_array_equal(out, images[number])
            except DatasetError:
                refused += 1
    assert refused > len(data) / 2


def test_the_metadata_of_an_array_without_frames(tmp_path: Path) -> None:
    array = write(tmp_path / "a.zarr", frames(1), [ZSTD])
    metadata = json.loads((array / "zarr.json").read_text())
    metadata["shape"][0] = 0
    (array / "zarr.json").write_text(json.dumps(metadata))
    assert len(open_array(array)) == 0
    with pytest.raises(IndexError):
        read(open_array(array), 0)
