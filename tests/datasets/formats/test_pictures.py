"""Pictures come out exactly, or not at all."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vla.core.errors import DatasetError
from vla.datasets.formats.pictures import PictureError, as_pixels, decode_picture, picture_notes, picture_shape

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
DEPTH = (np.arange(54).reshape(6, 9) * 1200).astype(np.uint16)


def encoded(pixels: np.ndarray, kind: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_16_bits(colour: int) -> bytes:
    """Pillow writes none: by hand, one white pixel in gray (0) or RGB (2)."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = b"\0" + b"\x12\x34" * (3 if colour == 2 else 1)
    header = struct.pack(">IIBBBBB", 1, 1, 16, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_what_is_exact() -> None:
    opaque = np.dstack([RGB, np.full((6, 9), 255, np.uint8)])
    assert np.array_equal(decode_picture(encoded(RGB)), RGB)
    assert np.array_equal(decode_picture(encoded(opaque)), RGB)
    assert np.array_equal(decode_picture(encoded(RGB[..., 0])), np.repeat(RGB[..., :1], 3, axis=2))
    few = (RGB // 128) * 255
    assert np.array_equal(decode_picture(encoded(few, mode="P", palette=1)), few)
    assert picture_shape(encoded(opaque)) == (6, 9, 3)
    assert picture_notes(encoded(RGB)) == []
    assert "alpha" in picture_notes(encoded(opaque))[0]
    assert "is grey" in picture_notes(encoded(RGB[..., 0]))[0]


def test_depth_keeps_its_bits() -> None:
    data = encoded(DEPTH)
    found = decode_picture(data)
    assert (found.dtype, picture_shape(data)) == (np.uint16, (6, 9, 1))
    assert np.array_equal(found[..., 0], DEPTH)
    assert decode_picture(png_of_16_bits(0))[0, 0, 0] == 0x1234
    assert "in mm" in picture_notes(data)[0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_viewers_turn_it(orientation: int) -> None:
    """A camera that wrote how it is mounted; the eight ways are those of the EXIF standard."""
    upright = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
        8: lambda x: np.rot90(x, 1),
    }[orientation](RGB)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(RGB, exif=exif)
    assert np.array_equal(decode_picture(data), upright)
    assert picture_shape(data) == upright.shape
    assert bool(picture_notes(data)) == (orientation != 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (png_of_16_bits(2), "16 bits a colour, of which 8 would be lost"),
        (encoded(np.dstack([RGB, RGB[..., 0]])), "transparent .alpha "),
        (encoded(RGB, "JPEG", "CMYK"), "CMYK, which has no exact RGB"),
        (encoded(DEPTH.astype(np.float32), "TIFF"), "colours are F"),
        (encoded(np.full((2, 2), 70_000, np.int32), "TIFF"), "0 to 65535 mm, got 70000"),
        (encoded(np.full((2, 2), -1, np.int32), "TIFF"), "0 to 65535 mm, got -1"),
        (encoded(RGB, "GIF", save_all=True, append_images=[Image.fromarray(255 - RGB)]), "holds 2 pictures"),
        (encoded(RGB)[:-30], "cannot be decoded as a picture .*"),
        (b"", "0 bytes .*it is empty"),
        (b"version https://git-lfs", "begins with b'version http'"),
    ],
    ids=["16 bits", "transparent", "cmyk", "float", "far", "negative", "film", "cut", "empty", "text"],
)
def test_what_is_not_exact_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        decode_picture(data)


def test_a_bomb_is_refused() -> None:
    """60,000 x 60,000 pixels in a header of a few bytes."""
    data = bytearray(encoded(RGB))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    import struct
    import zlib

    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    with pytest.raises(PictureError, match="decompression bomb"):
        decode_picture(bytes(data))


def test_arrays_of_pixels() -> None:
    frames = RGB[None]
    for other in (frames, frames.astype(np.float32), frames.astype(np.int64), frames.astype(np.uint16)):
        assert np.array_equal(as_pixels(other, "x"), frames)
        assert as_pixels(other, "x").dtype == np.uint8
    assert np.array_equal(as_pixels(frames[..., :1], "x"), np.repeat(frames[..., :1], 3, axis=-1))
    for wrong, message in (
        (frames.astype(np.int16) - 300, "got -"),
        (frames.astype(np.int16) + 256, "got "),
        (frames / 255, "without fractions"),
        (np.where(frames > 3, np.nan, frames), "got nan"),
        (frames > 3, "got bool"),
        (frames.transpose(0, 3, 1, 2), r"expected frames \(t, y, x, 3\)"),
        (RGB, r"got uint8 \(6, 9, 3\)"),
    ):
        with pytest.raises(DatasetError, match=message):
            as_pixels(wrong, "x")
