"""How frames are packed: raw, zstd (lossless, for simulation) or JPEG (for cameras). Each chunk has a checksum.

JPEG is written under the name and configuration of imagecodecs' own Zarr v3 codec, ``imagecodecs_jpeg``. That class
needs Python 3.12; `JpegCodec` here is the same for any version, and an entry point of this package makes zarr-python
find it, so that ``zarr.open`` reads such arrays wherever vla or a recent imagecodecs is installed.
"""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numcodecs
import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from vla.core.contract import Camera
from vla.core.errors import DatasetError
from vla.core.lookup import lookup

ZSTD_LEVEL = 1
"""Noisy frames of 224 pixels decode 1.5 and encode 3.7 times as fast as at level 3, for 16 % more bytes."""
JPEG_QUALITY = 95
JPEG_NAME = "imagecodecs_jpeg"

_ZSTD = numcodecs.Zstd(level=ZSTD_LEVEL, checksum=True)


@dataclass(frozen=True)
class JpegCodec(ArrayBytesCodec):
    """One RGB frame a chunk as JPEG, chroma not subsampled."""

    level: int | None = JPEG_QUALITY
    subsampling: str | None = "444"
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "JpegCodec":
        """Read the codec from an array's metadata."""
        configuration = data.get("configuration", {})
        return cls(level=configuration.get("level"), subsampling=configuration.get("subsampling"))

    def to_dict(self) -> dict[str, Any]:
        """The codec as an array's metadata hold it."""
        known = {"level": self.level, "subsampling": self.subsampling}
        return {"name": JPEG_NAME, "configuration": {key: value for key, value in known.items() if value is not None}}

    async def _decode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        out = np.empty(chunk_spec.shape[-3:], np.uint8)  # a picture of another size is refused, not unpacked
        frame = await asyncio.to_thread(decode_jpeg, chunk_data.as_numpy_array(), out)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(frame.reshape(chunk_spec.shape))

    async def _encode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        frame = np.ascontiguousarray(chunk_data.as_numpy_array()).reshape(chunk_spec.shape[-3:])
        data = await asyncio.to_thread(encode_jpeg, frame, self.level, self.subsampling)
        return chunk_spec.prototype.buffer.from_bytes(data)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """Unknown before encoding."""
        raise NotImplementedError


def encode_jpeg(frame: np.ndarray, level: int | None = JPEG_QUALITY, subsampling: str | None = "444") -> bytes:
    """A JPEG file of uint8 (y, x, 3); with Huffman tables of its own, it decodes 5 % faster and is 7 % smaller."""
    import imagecodecs

    return bytes(imagecodecs.jpeg8_encode(frame, level=level, subsampling=subsampling, optimize=True))


def decode_jpeg(data: Any, out: np.ndarray | None = None) -> np.ndarray:
    """The pixels of a JPEG file, uint8 (y, x, 3)."""
    import imagecodecs

    return np.asarray(imagecodecs.jpeg8_decode(data, out=out))


def _decode_jpeg(data: memoryview, out: np.ndarray) -> None:
    decode_jpeg(data, out)


def unpack_zstd(data: Any, out: np.ndarray) -> None:
    """Unpack a zstd frame into a contiguous array that it must fill; one that says or holds more costs nothing."""
    size = announced_size(memoryview(data))
    if size == out.nbytes:
        _ZSTD.decode(data, out)
        return
    if size is not None:
        raise ValueError(f"expected {out.nbytes} bytes, got {size}")
    import imagecodecs

    found = imagecodecs.zstd_decode(data, out=bytearray(out.nbytes))  # which unpacks no more than that
    if len(found) != out.nbytes:
        raise ValueError(f"expected {out.nbytes} bytes, got {len(found)}")
    out.reshape(-1).view(np.uint8)[:] = np.frombuffer(found, np.uint8)


def announced_size(data: memoryview) -> int | None:
    """The decoded size that a zstd frame announces (RFC 8878, section 3.1.1.1), if it does."""
    if len(data) < 6:
        raise ValueError("a zstd frame that is cut short")
    descriptor = data[4]
    single, size = descriptor >> 5 & 1, (1, 2, 4, 8)[descriptor >> 6]
    if not single and size == 1:
        return None
    start = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    return int.from_bytes(data[start : start + size], "little") + (256 if size == 2 else 0)


def _with_crc(data: bytes) -> bytes:
    return data + struct.pack("<I", google_crc32c.value(data))


@dataclass(frozen=True, kw_only=True)
class FrameCodec:
    """One way to pack frames: what we write and read ourselves, and the same as zarr-python's codecs."""

    encode: Callable[[np.ndarray], bytes]
    """One contiguous frame (y, x, c) as the bytes of its chunk, checksum included."""
    zarr: Callable[[], list[Any]]
    """The codecs as zarr-python's objects; the array's metadata are made of them."""
    depth: bool
    """Whether it can hold uint16."""
    packing: str = ""
    """Zarr's name of the codec that packs the pixels; empty for plain ones, which are read straight into place."""
    decode: Callable[[memoryview, np.ndarray], None] | None = None
    """Unpack a chunk without its checksum into a contiguous frame; whatever is wrong with it raises."""


FRAME_CODECS: dict[str, FrameCodec] = {
    "zstd": FrameCodec(
        encode=lambda frame: bytes(_ZSTD.encode(frame)),
        zarr=lambda: [BytesCodec(endian="little"), ZstdCodec(level=ZSTD_LEVEL, checksum=True)],
        depth=True,
        packing="zstd",
        decode=unpack_zstd,
    ),
    "jpeg": FrameCodec(
        encode=lambda frame: _with_crc(encode_jpeg(frame)),
        zarr=lambda: [JpegCodec(), Crc32cCodec()],
        depth=False,
        packing=JPEG_NAME,
        decode=_decode_jpeg,
    ),
    "raw": FrameCodec(
        encode=lambda frame: _with_crc(frame.tobytes()),
        zarr=lambda: [BytesCodec(endian="little"), Crc32cCodec()],
        depth=True,
    ),
}
DECODERS = {codec.packing: codec.decode for codec in FRAME_CODECS.values() if codec.decode is not None}
"""How to unpack a frame, by Zarr's name of what packed it; users' own codecs are left to zarr-python."""


def frame_codec(name: str, camera: Camera) -> FrameCodec:
    """The codec of this name, ours or a user's, if it can hold the camera's frames."""
    codec = lookup("frame codec", name, FRAME_CODECS, group="vla.frame_codecs")
    if camera.kind == "depth" and not codec.depth:
        raise DatasetError(f"camera {camera.name}: codec {name!r} cannot hold depth (uint16); use zstd or raw")
    return codec
