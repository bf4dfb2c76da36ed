"""Images that travel as JPEG or PNG: decoded into the shape that the contract says, or refused before any decoding."""

import imagecodecs
import numpy as np

from vla.core.contract import Camera
from vla.core.errors import ServeError

_DECODERS = {b"\xff\xd8\xff": imagecodecs.jpeg8_decode, b"\x89PNG\r\n\x1a\n": imagecodecs.png_decode}
"""By the first bytes."""


def decode_picture(data: bytes, camera: Camera) -> np.ndarray:
    """The image of ``camera``; a header that says another size never gets memory for it."""
    decoder = next((decoder for start, decoder in _DECODERS.items() if data.startswith(start)), None)
    if decoder is None:
        raise ServeError(f"image of camera {camera.name}: expected an array, or JPEG or PNG as bytes, got other bytes")
    image = np.empty(camera.shape, camera.dtype)
    try:
        decoder(data, out=image if camera.kind == "rgb" else image[:, :, 0])
    except (ValueError, RuntimeError) as error:  # imagecodecs' own errors are RuntimeErrors
        raise ServeError(
            f"image of camera {camera.name}: expected {camera.dtype} {camera.shape} as JPEG or PNG ({error})"
        ) from None
    return image
