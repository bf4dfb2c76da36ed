"""Pictures as of a robot's camera, drawn: a shaded table with some noise, and blocks in flat colours."""

import numpy as np

from vla.models.pictures.pictures import Pictures

COLOURS = np.array([[220, 30, 30], [30, 170, 40], [40, 70, 230], [240, 220, 30]], np.uint8)


def table(side: int) -> np.ndarray:
    """Brighter towards the bottom."""
    shade = np.linspace(140, 170, side)[:, None, None] * np.array([1.0, 0.95, 0.9])
    return np.broadcast_to(shade, (side, side, 3)).round().astype(np.uint8)


def scenes(count: int, *, side: int = 32, seed: int = 0, noise: int = 1) -> np.ndarray:
    """Pictures (b, y, x, 3), each with two blocks, on a table whose pixels are up to ``noise`` levels brighter."""
    rng = np.random.default_rng(seed)
    images = np.repeat(table(side)[None], count, axis=0)
    images += rng.integers(0, noise + 1, images.shape, dtype=np.uint8)
    for image in images:
        for colour in rng.permutation(4)[:2]:
            y, x = rng.integers(0, side - side // 5, 2)
            image[y : y + side // 5, x : x + side // 5] = COLOURS[colour]
    return images


def pictures(count: int, *, side: int = 32, seed: int = 0) -> Pictures:
    """Of one camera."""
    return Pictures.of_cameras({"front": scenes(count, side=side, seed=seed)})
