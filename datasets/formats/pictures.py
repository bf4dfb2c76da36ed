"""Pictures within recordings, as uint8 RGB or uint16 depth: nothing becomes 8 bits, or turns, without a word.

What is exact is done: grey and paletted pictures become RGB, an alpha channel that is opaque everywhere is left out, a
picture is turned as its EXIF orientation says (as viewers, OpenCV and the library ``datasets`` do); `picture_notes`
says so, for a format to pass on. What is not exact is refused: 16 bits a colour, transparency, CMYK, fractions.
"""

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16

from vla.core.errors import DatasetError

DEPTH_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
"""What Pillow calls one channel of more than 8 bits."""
_COLOURS = {"RGB": "RGB", "L": "grey", "1": "black and white", "P": "paletted"}
_ALPHA = ("RGBA", "LA", "PA")
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
"""Orientations that make rows of columns."""


class PictureError(ValueError):
    """Bytes that are no picture, or one that cannot be had exactly; callers add file, camera and step."""


def picture_shape(data: bytes) -> tuple[int, int, int]:
    """(y, x, channels) from the header alone, as it will be decoded: 1 channel for distances of 16 bits, else 3."""
    with _opened(data) as picture:
        height, width = picture.height, picture.width
        if _orientation(picture) in _TURNED:
            height, width = width, height
        return height, width, 1 if picture.mode in DEPTH_MODES else 3


def picture_notes(data: bytes) -> list[str]:
    """What decoding makes of a picture beside its pixels: phrases that follow the name of a camera."""
    with _opened(data) as picture:
        notes = []
        if _orientation(picture) != 1:
            notes.append(f"is turned as its EXIF orientation {_orientation(picture)} says")
        if picture.mode in _ALPHA:
            notes.append("has an alpha channel, which is left out (it must be opaque everywhere)")
        if picture.mode in _COLOURS and picture.mode != "RGB":
            notes.append(f"is {_COLOURS[picture.mode]} and becomes RGB")
        if picture.mode in DEPTH_MODES:
            notes.append("has one channel of 16 bits, which is taken as distances in mm")
    return notes


def decode_picture(data: bytes) -> UInt8[np.ndarray, "y x 3"] | UInt16[np.ndarray, "y x 1"]:
    """Pixels in RGB, or distances where the file holds one channel of 16 bits; what cannot be exact is refused."""
    from PIL import ImageOps

    with _opened(data) as picture:
        if _orientation(picture) != 1:
            picture = ImageOps.exif_transpose(picture)
        if picture.mode in DEPTH_MODES:
            return _distances(np.asarray(picture))
        if picture.mode in _ALPHA or (picture.mode == "P" and "transparency" in picture.info):
            picture = picture.convert("RGBA")
            least = picture.getchannel("A").getextrema()[0]
            if least < 255:
                raise PictureError(
                    f"it is transparent (alpha {least}), so that its colours depend on a background; write it as RGB"
                )
        return np.asarray(picture.convert("RGB"))


def as_pixels(frames: np.ndarray, where: str) -> UInt8[np.ndarray, "t y x 3"]:
    """Frames of an array as uint8, also from other numbers if all are whole and within 0 to 255; grey becomes RGB.

    Other shapes and numbers are a `DatasetError`.
    """
    if frames.ndim != 4 or frames.shape[-1] not in (1, 3):
        raise DatasetError(f"{where}: expected frames (t, y, x, 3), got {frames.dtype} {frames.shape}; convert them")
    if frames.dtype != np.uint8:
        pixels = np.nan_to_num(frames).clip(0, 255).astype(np.uint8) if frames.dtype.kind in "fiu" else None
        if pixels is None or not np.array_equal(pixels, frames):
            wrong = frames.dtype if pixels is None else frames[pixels != frames].flat[0]
            raise DatasetError(
                f"{where}: expected pixels 0 to 255 without fractions, got {wrong}; convert the array to uint8 first"
            )
        frames = pixels
    return frames if frames.shape[-1] == 3 else np.repeat(frames, 3, axis=-1)


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Any]:
    """A picture of Pillow that can be had exactly; anything else, here or while it is decoded, is a `PictureError`."""
    from PIL import Image

    foreign = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError)
    try:
        with Image.open(io.BytesIO(data)) as picture:
            _require_exact(picture)
            yield picture
    except PictureError:
        raise
    except (*foreign, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise PictureError(f"{len(data)} bytes cannot be decoded as a picture ({_brief(error, data)})") from None


def _require_exact(picture: Any) -> None:
    mode = picture.mode
    if mode not in (*_COLOURS, *_ALPHA, *DEPTH_MODES):
        raise PictureError(f"its colours are {mode}, which has no exact RGB; write it as RGB of 8 bits")
    if mode not in DEPTH_MODES and any(";16" in str(part[-1]) for part in picture.tile):
        raise PictureError("it has 16 bits a colour, of which 8 would be lost; write it as RGB of 8 bits")
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":  # cameras' JPEG with a preview behind it
        raise PictureError(f"it holds {picture.n_frames} pictures; write one for each step")


def _distances(values: np.ndarray) -> UInt16[np.ndarray, "y x 1"]:
    if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        wrong = values.min() if values.min() < 0 else values.max()
        raise PictureError(f"expected distances of 0 to 65535 mm, got {wrong}; write them as uint16")
    return values.astype(np.uint16)[..., None]


def _orientation(picture: Any) -> int:
    value = picture.getexif().get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _brief(error: Exception, data: bytes) -> str:
    """Pillow's words, without the address of our buffer."""
    if not data:
        return "it is empty"
    return f"it begins with {bytes(data[:12])!r}" if "cannot identify" in str(error) else str(error)
