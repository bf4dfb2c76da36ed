"""A fixed detector of coloured things: which pixels are of a colour that a name stands for, and where a block lies."""

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

_HUES = {"red": 0.0, "yellow": 1 / 6, "green": 1 / 3, "blue": 0.63}
"""As the table's colours are seen; a full turn is 1."""
_REACH, _SATURATED, _BRIGHT = 0.06, 0.5, 60
"""How far a hue may be off, and the least saturation and value of a coloured pixel."""
_BLOCK = (8, 95)
"""Fewest and most pixels of a block, in a picture of 64."""
_PLATE = 40
"""Fewest of a plate, some of which a block and the hand may hide."""
_ABOVE = 5
"""A block stands on its plate: seen from the front its middle may be so many pixels above the plate's."""


def of_colour(picture: UInt8[np.ndarray, "y x 3"], colour: str) -> Bool[np.ndarray, "y x"]:
    """Pixels of this colour."""
    pixels = picture.astype(np.float64)
    high, low = pixels.max(axis=-1), pixels.min(axis=-1)
    spread = np.maximum(high - low, 1e-9)
    red, green, blue = np.moveaxis(pixels, -1, 0)
    turn = np.select(
        [high == red, high == green], [(green - blue) / spread, 2 + (blue - red) / spread], 4 + (red - green) / spread
    )
    away = np.abs((turn / 6 - _HUES[colour] + 0.5) % 1 - 0.5)
    found: np.ndarray = (away < _REACH) & (high - low > _SATURATED * high) & (high > _BRIGHT)
    return found


def block_on_plate(picture: UInt8[np.ndarray, "y x 3"], block: str, plate: str) -> bool:
    """Whether a block of one colour is seen within a plate of another; of one colour nobody could say."""
    plates, _ = ndimage.label(of_colour(picture, plate), np.ones((3, 3)))
    sizes = np.bincount(plates.ravel())[1:]
    blocks, count = ndimage.label(of_colour(picture, block), np.ones((3, 3)))
    for number in np.flatnonzero(sizes >= _PLATE):
        rows, columns = np.nonzero(plates == number + 1)
        for one in range(1, count + 1):
            own = np.nonzero(blocks == one)
            row, column = own[0].mean(), own[1].mean()
            inside = columns.min() <= column <= columns.max() and rows.min() - _ABOVE <= row <= rows.max()
            if _BLOCK[0] <= len(own[0]) <= _BLOCK[1] and inside:
                return True
    return False
