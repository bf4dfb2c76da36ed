"""Frames in each codec: exact or close, readable by anyone with zarr-python, and no damage passes for a frame."""

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import google_crc32c
import imagecodecs
import numcodecs
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec

from vla.core.contract import Camera
from vla.core.errors import DatasetError, UnknownNameError
from vla.datasets.frames.codecs import (
    FRAME_CODECS,
    JPEG_NAME,
    FrameCodec,
    JpegCodec,
    decode_jpeg,
    encode_jpeg,
    frame_codec,
)
from vla.datasets.frames.shard_reader import ShardReader
from vla.datasets.frames.shard_writer import ShardWriter
from vla.datasets.storage.storage import LocalStorage

RGB = Camera(name="eye", height=24, width=40)
DEPTH = Camera(name="depth", height=24, width=40, kind="depth")
READ = """
import sys, json, zarr
assert not any(name.startswith("vla") for name in sys.modules)
array = zarr.open(sys.argv[1], mode="r")
assert isinstance(array, zarr.Array)
array[...].tofile(sys.argv[2])
codecs = [type(codec).__name__ for codec in array.metadata.codecs[0].codecs]
sys.stdout.write(json.dumps([codecs, list(array.shape), str(array.dtype)]))
"""


def pictures(camera: Camera, count: int = 5) -> NDArray[Any]:
    """Smooth, as photographs are, and different in each channel, row and column."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 200, (count, 4, 5, camera.shape[2]))
    fine = coarse.repeat(8, axis=2).repeat(6, axis=1) + np.arange(40)[:, None] % 8
    return fine.astype(np.uint8) if camera.kind == "rgb" else (fine * 257).astype(np.uint16)


def write(folder: Path, camera: Camera, codec: str, frames: NDArray[Any]) -> Path:
    writer = ShardWriter(folder, camera, codec)
    for frame in frames:
        writer.append(frame_codec(codec, camera).encode(frame))
    writer.close()
    return folder


def read(folder: Path, camera: Camera) -> NDArray[Any]:
    reader = ShardReader(LocalStorage(folder.parent), folder.name, camera)
    out = np.empty((len(reader), *camera.shape), camera.dtype)
    for number in range(len(reader)):
        reader.read_into(number, out[number])
    return out


def assert_close(found: NDArray[Any], expected: NDArray[Any]) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert np.abs(found.astype(int) - expected.astype(int)).mean() < 2


@pytest.mark.parametrize("camera", [RGB, DEPTH], ids=["rgb", "depth"])
@pytest.mark.parametrize("codec", ["zstd", "raw"])
def test_lossless(tmp_path: Path, camera: Camera, codec: str) -> None:
    rng = np.random.default_rng(1)
    frames = rng.integers(0, np.iinfo(camera.dtype).max + 1, (3, *camera.shape), np.dtype(camera.dtype))
    folder = write(tmp_path / "a b", camera, codec, frames)
    for found in (read(folder, camera), np.asarray(zarr.open_array(folder, mode="r")[...])):
        assert found.dtype == frames.dtype
        np.testing.assert_array_equal(found, frames)


def test_jpeg_is_close_and_the_same_for_each_reader(tmp_path: Path) -> None:
    frames = pictures(RGB)
    folder = write(tmp_path / "a", RGB, "jpeg", frames)
    found = read(folder, RGB)
    assert_close(found, frames)
    np.testing.assert_array_equal(found, np.asarray(zarr.open_array(folder, mode="r")[...]))
    assert (folder / "c/0/0/0/0").stat().st_size < frames.nbytes / 2


def test_red_stays_red() -> None:
    for channel in range(3):
        frame = np.zeros((8, 8, 3), np.uint8)
        frame[..., channel] = 255
        assert_close(decode_jpeg(encode_jpeg(frame)), frame)


@pytest.mark.parametrize(("codec", "camera"), [("jpeg", RGB), ("zstd", DEPTH), ("raw", RGB)])
def test_a_fresh_process_reads_it_without_us(tmp_path: Path, codec: str, camera: Camera) -> None:
    """zarr-python finds the JPEG codec by the entry point of the installed package."""
    folder = write(tmp_path / "a", camera, codec, pictures(camera))
    command: list[str | Path] = [sys.executable, "-c", READ, folder, tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr.decode()
    codecs, shape, dtype = json.loads(done.stdout)
    assert (
        codecs
        == {
            "jpeg": ["JpegCodec", "Crc32cCodec"],
            "zstd": ["BytesCodec", "ZstdCodec"],
            "raw": ["BytesCodec", "Crc32cCodec"],
        }[codec]
    )
    assert (tuple(shape), dtype) == ((5, *camera.shape), camera.dtype)
    found = np.fromfile(tmp_path / "out", camera.dtype).reshape(shape)
    np.testing.assert_array_equal(found, read(folder, camera))


@pytest.mark.parametrize("codec", FRAME_CODECS)
def test_what_zarr_writes_with_our_codecs_is_read_here(tmp_path: Path, codec: str) -> None:
    frames = pictures(RGB)
    serializer = ShardingCodec(chunk_shape=(1, *RGB.shape), codecs=FRAME_CODECS[codec].zarr())
    array = zarr.create_array(
        tmp_path / "a", shape=frames.shape, dtype="uint8", chunks=(3, *RGB.shape), serializer=serializer,
        compressors=None, filters=None, config={"write_empty_chunks": True},
    )  # fmt: skip
    array[...] = frames
    found = read(tmp_path / "a", RGB)
    np.testing.assert_array_equal(found, np.asarray(array[...]))
    assert_close(found, frames)


def test_jpeg_without_a_checksum_is_read(tmp_path: Path) -> None:
    frames = pictures(RGB)
    serializer = ShardingCodec(chunk_shape=(1, *RGB.shape), codecs=[JpegCodec(level=99, subsampling="444")])
    array = zarr.create_array(
        tmp_path / "a", shape=frames.shape, dtype="uint8", chunks=frames.shape, serializer=serializer,
        compressors=None, filters=None,
    )  # fmt: skip
    array[...] = frames
    assert_close(read(tmp_path / "a", RGB), frames)


def test_the_metadata_is_that_of_imagecodecs(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", RGB, "jpeg", pictures(RGB))
    sharding = json.loads((folder / "zarr.json").read_text())["codecs"][0]["configuration"]
    assert sharding["codecs"] == [
        {"name": "imagecodecs_jpeg", "configuration": {"level": 95, "subsampling": "444"}},
        {"name": "crc32c"},
    ]
    for codec in (JpegCodec(), JpegCodec(level=None, subsampling=None), JpegCodec(level=50, subsampling="420")):
        assert JpegCodec.from_dict(codec.to_dict()) == codec
    assert JpegCodec.from_dict({"name": JPEG_NAME}) == JpegCodec(level=None, subsampling=None)


def test_quality_and_subsampling_are_obeyed() -> None:
    frame = pictures(RGB)[0]
    sizes = [len(encode_jpeg(frame, level, "444")) for level in (30, 95, 100)]
    assert sizes == sorted(set(sizes))
    assert len(encode_jpeg(frame, 95, "420")) < len(encode_jpeg(frame, 95, "444"))


def test_jpeg_refuses_depth() -> None:
    with pytest.raises(DatasetError, match=r"camera depth: codec 'jpeg' cannot hold depth \(uint16\); use zstd or raw"):
        frame_codec("jpeg", DEPTH)
    for codec in ("zstd", "raw"):
        frame_codec(codec, DEPTH)


def test_a_codec_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named as module:Name; zarr-python reads what we cannot."""
    gzip = FrameCodec(
        encode=lambda frame: bytes(numcodecs.GZip(level=1).encode(frame)),
        zarr=lambda: [BytesCodec(endian="little"), GzipCodec(level=1)],
        depth=True,
    )
    monkeypatch.setattr("vla.datasets.frames.codecs.OWN", gzip, raising=False)
    name = "vla.datasets.frames.codecs:OWN"
    assert frame_codec(name, RGB) is gzip
    for camera in (RGB, DEPTH):
        frames = pictures(camera)
        np.testing.assert_array_equal(read(write(tmp_path / camera.name, camera, name, frames), camera), frames)


def test_unknown_codecs() -> None:
    with pytest.raises(UnknownNameError, match=r"frame codec 'jpg'.*jpeg"):
        frame_codec("jpg", RGB)


@pytest.mark.parametrize("codec", FRAME_CODECS)
def test_every_flipped_bit_of_a_frame_is_noticed(tmp_path: Path, codec: str) -> None:
    camera = Camera(name="eye", height=2, width=3)
    frames = np.random.default_rng(2).integers(0, 256, (2, *camera.shape), np.uint8)
    folder = write(tmp_path / "a", camera, codec, frames)
    expected = read(folder, camera)
    path = folder / "c/0/0/0/0"
    data = path.read_bytes()
    start, size = np.frombuffer(data[-36:], "<u8", count=4)[2:].astype(int)
    reader = ShardReader(LocalStorage(tmp_path), "a", camera)
    out = np.empty(camera.shape, np.uint8)
    named = silent = 0
    bits = range(8 * start, 8 * (start + size), 3 if codec == "jpeg" else 1)  # the headers of a JPEG are long
    for bit in bits:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            reader.read_into(1, out)
        except DatasetError as error:
            named += f"{path}, frame 1: " in str(error)
        else:
            silent += 1
            np.testing.assert_array_equal(out, expected[1])
    assert silent <= (4 if codec == "zstd" else 0)  # some bits of zstd's header mean nothing
    assert named + silent == len(bits)
    reader.read_into(0, out)
    np.testing.assert_array_equal(out, expected[0])


@pytest.mark.parametrize("chain", ["jpeg", "jpeg without checksum"])
@pytest.mark.parametrize("size", [(24, 40, 1), (24, 38, 3), (40, 24, 3), (12, 40, 3)])
def test_a_jpeg_of_another_size_is_refused(tmp_path: Path, chain: str, size: tuple[int, ...]) -> None:
    """A whole file with the right checksum, but not a picture of this camera."""
    picture = np.zeros(size, np.uint8)
    data = bytes(imagecodecs.jpeg8_encode(picture[..., 0] if size[2] == 1 else picture, level=90))
    folder = tmp_path / "a"
    writer = ShardWriter(folder, RGB, "jpeg")
    writer.append(data if "without" in chain else data + _crc(data))
    writer.close()
    if "without" in chain:
        metadata = json.loads((folder / "zarr.json").read_text())
        metadata["codecs"][0]["configuration"]["codecs"].pop()
        (folder / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(DatasetError, match=r"/0, frame 0: the frame cannot be decoded"):
        read(folder, RGB)


def _crc(data: bytes) -> bytes:
    return struct.pack("<I", google_crc32c.value(data))


def test_a_frame_with_too_few_pixels_is_refused(tmp_path: Path) -> None:
    """Each codec's checksum is right; a reader that believed it would show what was in the buffer before."""
    small = Camera(name="eye", height=12, width=40)
    for codec in FRAME_CODECS:
        writer = ShardWriter(tmp_path / codec, RGB, codec)
        writer.append(frame_codec(codec, small).encode(pictures(RGB)[0, :12]))
        writer.close()
        with pytest.raises(DatasetError, match=r"frame 0: .*(expected|invalid)"):
            read(tmp_path / codec, RGB)


def test_chains_have_their_checksum() -> None:
    for codec in FRAME_CODECS.values():
        last = codec.zarr()[-1]
        assert isinstance(last, Crc32cCodec) or last.checksum
