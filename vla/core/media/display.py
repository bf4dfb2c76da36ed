"""How a video wants to be shown: its display matrix, by which cameras say how they were mounted.

Players, OpenCV, ffmpeg and torchcodec turn and mirror frames by it; so do we.
"""

import struct
from typing import Any

import numpy as np

from vla.core.errors import DatasetError

Matrix = tuple[int, int, int, int]
"""Where the axes go: a pixel at (x, y) is shown at (a x + c y, b x + d y), each of a, b, c, d being -1, 0 or 1."""
UPRIGHT: Matrix = (1, 0, 0, 1)
_ONE = 1 << 16
_NAMES: dict[Matrix, str] = {
    (0, 1, -1, 0): "turned by 90 degrees",
    (-1, 0, 0, -1): "turned by 180 degrees",
    (0, -1, 1, 0): "turned by 270 degrees",
    (-1, 0, 0, 1): "mirrored left to right",
    (1, 0, 0, -1): "mirrored top to bottom",
    (0, 1, 1, 0): "mirrored at a diagonal",
    (0, -1, -1, 0): "mirrored at a diagonal",
}


def display_matrix(frame: Any, where: str) -> Matrix:
    """Of a decoded frame of PyAV; anything but quarter turns and mirrors is a `DatasetError`."""
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
    matrix = (round(a / _ONE), round(b / _ONE), round(c / _ONE), round(d / _ONE))
    exact = all(abs(value - sign * _ONE) <= 2 for value, sign in zip((a, b, c, d), matrix, strict=True))
    if not exact or (matrix != UPRIGHT and matrix not in _NAMES):
        shown = ", ".join(f"{value / _ONE:g}" for value in (a, b, c, d))
        raise DatasetError(
            f"{where}: its display matrix ({shown}) is neither a quarter turn nor a mirror; "
            "write the video again with the turn applied (ffmpeg does so)"
        )
    return matrix


def shown(pixels: np.ndarray, matrix: Matrix) -> np.ndarray:
    """A frame (y, x, 3) as players show it."""
    a, b, c, d = matrix
    if a:
        return pixels[::d, ::a]
    return pixels.transpose(1, 0, 2)[::b, ::c]


def display_note(matrix: Matrix) -> str | None:
    """What was done to the frames, or None."""
    return None if matrix == UPRIGHT else f"is {_NAMES[matrix]}, as its display matrix says"
