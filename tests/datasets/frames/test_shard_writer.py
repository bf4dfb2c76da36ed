"""Shards written here are those that zarr-python reads, also when writing was cut short and went on."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.codecs import ShardingCodec

from vla.core.contract import Camera
from vla.datasets.frames.codecs import FRAME_CODECS, frame_codec
from vla.datasets.frames.shard_reader import ShardReader
from vla.datasets.frames.shard_writer import ShardWriter
from vla.datasets.storage.storage import LocalStorage

RGB = Camera(name="eye", height=6, width=8)
DEPTH = Camera(name="depth", height=6, width=8, kind="depth")
CASES = [(RGB, "zstd"), (RGB, "raw"), (RGB, "jpeg"), (DEPTH, "zstd"), (DEPTH, "raw")]


def frames(count: int, camera: Camera = RGB) -> NDArray:
    top = np.iinfo(camera.dtype).max + 1
    images = np.random.default_rng(count).integers(0, top, (count, *camera.shape), np.dtype(camera.dtype))
    images[:1] = 0  # what Zarr would by default not store
    return images


def read(array: Path, camera: Camera) -> NDArray:
    reader = ShardReader(LocalStorage(array.parent), array.name, camera)
    out = np.empty((len(reader), *camera.shape), camera.dtype)
    for number in range(len(reader)):
        reader.read_into(number, out[number])
    return out


@pytest.mark.parametrize("count", [1, 2, 11])
@pytest.mark.parametrize(("camera", "codec"), CASES)
def test_zarr_and_our_reader_agree(tmp_path: Path, camera: Camera, codec: str, count: int) -> None:
    images = frames(count, camera)
    writer = ShardWriter(tmp_path / "größe 1", camera, codec)
    for number, frame in enumerate(images):
        assert len(writer) == number
        writer.append(frame_codec(codec, camera).encode(frame))
    writer.sync()
    writer.close()
    array = zarr.open_array(tmp_path / "größe 1", mode="r")
    assert (array.chunks, array.shards) == ((1, *camera.shape), (count, *camera.shape))
    found = read(tmp_path / "größe 1", camera)
    np.testing.assert_array_equal(np.asarray(array[...]), found)
    if codec != "jpeg":
        np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize(("camera", "codec"), CASES)
def test_the_metadata_is_that_of_zarr(tmp_path: Path, camera: Camera, codec: str) -> None:
    writer = ShardWriter(tmp_path / "ours", camera, codec)
    for frame in frames(3, camera):
        writer.append(frame_codec(codec, camera).encode(frame))
    writer.close()
    zarr.create_array(
        tmp_path / "theirs",
        shape=(3, *camera.shape),
        dtype=camera.dtype,
        chunks=(3, *camera.shape),
        serializer=ShardingCodec(chunk_shape=(1, *camera.shape), codecs=FRAME_CODECS[codec].zarr()),
        compressors=None,
        filters=None,
        dimension_names=("time", "y", "x", "channel"),
    )
    ours, theirs = (json.loads((tmp_path / name / "zarr.json").read_text()) for name in ("ours", "theirs"))
    assert ours == theirs


def test_a_shard_is_what_zarr_would_write(tmp_path: Path) -> None:
    images = frames(5)
    writer = ShardWriter(tmp_path / "ours", RGB, "raw")
    for frame in images:
        writer.append(frame_codec("raw", RGB).encode(frame))
    writer.close()
    codec = ShardingCodec(chunk_shape=(1, *RGB.shape), codecs=FRAME_CODECS["raw"].zarr())
    array = zarr.create_array(
        tmp_path / "theirs", shape=images.shape, dtype="uint8", chunks=images.shape, serializer=codec, compressors=None,
        config={"write_empty_chunks": True},
    )  # fmt: skip
    array[...] = images
    ours, theirs = ((tmp_path / name / "c/0/0/0/0").read_bytes() for name in ("ours", "theirs"))
    assert len(ours) == len(theirs)
    assert {ours[i * 148 :][:148] for i in range(5)} == {theirs[i * 148 :][:148] for i in range(5)}


@given(cut=st.integers(0, 10 * 148 + 200), kept=st.integers(0, 6))
def test_an_unfinished_shard_goes_on(tmp_path_factory: pytest.TempPathFactory, cut: int, kept: int) -> None:
    """Whatever a dead writer left behind the frames that are kept is gone."""
    images, folder = frames(10), tmp_path_factory.mktemp("shard") / "a"
    chunks = [frame_codec("raw", RGB).encode(frame) for frame in images]
    writer = ShardWriter(folder, RGB, "raw")
    for chunk in chunks[:6]:
        writer.append(chunk)
    writer.abandon()
    tail = writer.path.read_bytes()[: max(cut, kept * 148)]
    writer.path.write_bytes(tail)
    writer = ShardWriter(folder, RGB, "raw")
    writer.resume([148] * kept)
    for chunk in chunks[kept:]:
        writer.append(chunk)
    writer.close()
    np.testing.assert_array_equal(read(folder, RGB), images)
    np.testing.assert_array_equal(np.asarray(zarr.open_array(folder, mode="r")[...]), images)


def test_frames_are_in_the_file_at_once(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "a", RGB, "raw")
    for count, frame in enumerate(frames(3), start=1):
        writer.append(frame_codec("raw", RGB).encode(frame))
        assert writer.path.stat().st_size == 148 * count
    writer.abandon()
    assert not (tmp_path / "a" / "zarr.json").exists()
