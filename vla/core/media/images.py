"""Frames in another size."""

import numpy as np
from jaxtyping import UInt8


def resize_frame(frame: UInt8[np.ndarray, "y x 3"], size: tuple[int, ...]) -> UInt8[np.ndarray, "v u 3"]:
    """A frame stretched to ``size`` (y, x): each pixel is the mean of the area that it covers, with soft edges.

    Where a side grows, pixels are interpolated linearly. No threads: safe in forked loader processes.
    """
    if frame.shape[:2] == tuple(size):
        return frame
    from PIL import Image

    shrinks = frame.shape[0] >= size[0] and frame.shape[1] >= size[1]
    # Not a box, which takes each pixel whole or not at all, and so shifts lines by half a pixel here and there.
    kernel = Image.Resampling.HAMMING if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(frame).resize((size[1], size[0]), kernel))
