"""Encoded pictures within recordings: PNG, JPEG and what else Pillow opens."""

import io

import numpy as np
from jaxtyping import UInt8, UInt16

DEPTH_MODES = ("I", "I;16", "I;16B", "I;16L")
"""What Pillow calls one channel of more than 8 bits."""


class PictureError(ValueError):
    """Bytes that are no picture; callers add file, camera and step."""


def picture_shape(data: bytes) -> tuple[int, int, int]:
    """(y, x, channels) from the header alone: 1 channel for distances of 16 bits, else 3."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.height, picture.width, 1 if picture.mode in DEPTH_MODES else 3
    except (OSError, SyntaxError, ValueError) as error:
        raise PictureError(f"{len(data)} bytes are no picture ({_brief(error)})") from None


def decode_picture(data: bytes) -> UInt8[np.ndarray, "y x 3"] | UInt16[np.ndarray, "y x 1"]:
    """Pixels in RGB, or distances where the file holds one channel of 16 bits."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.mode in DEPTH_MODES:
                return np.asarray(picture).astype(np.uint16)[..., None]
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise PictureError(f"{len(data)} bytes cannot be decoded as a picture ({_brief(error)})") from None


def _brief(error: Exception) -> str:
    """Pillow's words, without the address of our buffer."""
    return "unknown format" if "cannot identify" in str(error) else str(error)
