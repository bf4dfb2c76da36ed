"""Pictures that a codec is fitted to or measured on, and the one definition of which of their pixels are objects.

The background of a camera is the median of its pictures, pixel by pixel: unlike their mean it shows the table, not a
haze of all the places at which something lay. A pixel is an *object pixel* where some channel differs from that by more
than `DIFFERENT`: blocks, plates, what the arm covers, and their shadows where they are dark. Of a camera that moves, it
is whatever differs from what that camera mostly sees.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, UInt8

DIFFERENT = 24
"""Levels of 255 by which some channel of an object pixel differs from its background."""
_BACKGROUND_PICTURES = 500
"""Pictures of each camera that its background is the median of, at most."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures of several cameras, all of one size."""

    images: UInt8[np.ndarray, "b y x 3"]
    camera: Int64[np.ndarray, " b"]
    """Which of ``cameras`` took each."""
    cameras: tuple[str, ...]
    backgrounds: UInt8[np.ndarray, "n y x 3"]
    """Of each camera."""
    means: UInt8[np.ndarray, "n y x 3"]
    """The mean picture of each camera: what any codec has to beat."""

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """Sides (y, x) in pixels."""
        return self.images.shape[1], self.images.shape[2]

    def objects(self) -> Bool[np.ndarray, "b y x"]:
        """Which pixels are object pixels."""
        return object_pixels(self.images, self.backgrounds[self.camera])

    def of(self, rows: Int64[np.ndarray, " w"]) -> "Pictures":
        """Some of them, against the same backgrounds and means."""
        return Pictures(
            images=self.images[rows],
            camera=self.camera[rows],
            cameras=self.cameras,
            backgrounds=self.backgrounds,
            means=self.means,
        )

    @staticmethod
    def of_cameras(images: dict[str, UInt8[np.ndarray, "_ y x 3"]]) -> "Pictures":
        """The pictures of each camera, which are also what its background and its mean are taken from."""
        own = [found[:: max(1, -(-len(found) // _BACKGROUND_PICTURES))] for found in images.values()]
        return Pictures(
            images=np.concatenate(list(images.values())),
            camera=np.repeat(np.arange(len(images)), [len(found) for found in images.values()]),
            cameras=tuple(images),
            backgrounds=np.stack([np.median(found, axis=0).astype(np.uint8) for found in own]),
            means=np.stack([found.mean(axis=0).round().astype(np.uint8) for found in images.values()]),
        )


def object_pixels(
    images: UInt8[np.ndarray, "b y x 3"], backgrounds: UInt8[np.ndarray, "b y x 3"]
) -> Bool[np.ndarray, "b y x"]:
    """Which pixels differ from their background by more than `DIFFERENT` in some channel."""
    # Of bytes: the larger minus the smaller does not wrap around.
    distance = np.maximum(images, backgrounds) - np.minimum(images, backgrounds)
    found: np.ndarray = distance.max(axis=-1) > DIFFERENT
    return found
