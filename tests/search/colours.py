"""An embedder that is small and real: how much of a picture is of each colour, and where, against words for colours."""

from collections.abc import Sequence

import numpy as np

COLOURS = {"red": (217, 26, 26), "green": (26, 166, 51), "blue": (31, 64, 230), "yellow": (242, 217, 26)}
_CELLS = 4


class ColourEmbedder:
    """Vectors of how much there is of each colour, then of the mean colours of a grid, which no word speaks of."""

    digest, width = "c0105" * 6 + "00", len(COLOURS) + 3 * _CELLS**2

    image_size, camera = (32, 32), ""

    def __init__(self) -> None:
        self.pictures = 0
        """That have been embedded."""

    def images(self, pictures: np.ndarray) -> np.ndarray:
        self.pictures += len(pictures)
        side = pictures.shape[1] // _CELLS
        grid = pictures.reshape(len(pictures), _CELLS, side, _CELLS, side, 3).mean((2, 4)).reshape(len(pictures), -1)
        grid = grid / np.linalg.norm(grid, axis=1, keepdims=True).clip(1e-9)
        return unit(np.concatenate([10 * shares(pictures), 0.2 * grid], axis=1))

    def texts(self, sentences: Sequence[str]) -> np.ndarray:
        said = np.array([[float(sentence.count(colour)) for colour in COLOURS] for sentence in sentences])
        return unit(np.concatenate([said + 1e-3, np.zeros((len(said), 3 * _CELLS**2))], axis=1))


def shares(pictures: np.ndarray) -> np.ndarray:
    """The share of each picture that is of each colour, (b, colours)."""
    pixels = pictures.reshape(len(pictures), -1, 3).astype(np.float32)
    pixels = pixels - pixels.min(axis=2, keepdims=True)  # without what is grey in it
    strength = pixels.max(axis=2)
    found = []
    for colour in COLOURS.values():
        aim = np.array(colour, np.float32) - min(colour)
        likeness = (pixels @ aim) / (np.linalg.norm(pixels, axis=2) * np.linalg.norm(aim)).clip(1e-9)
        found.append(((likeness > 0.97) & (strength > 60)).mean(axis=1))
    return np.stack(found, axis=1)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)).astype(np.float32)
