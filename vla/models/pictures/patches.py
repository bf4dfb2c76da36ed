"""The patch codebook: each square of a picture is the nearest of a few hundred squares that were seen (no gradients).

As in arXiv 2502.01591, but for how the squares are chosen: weighted k-means instead of the first that is far enough
from those before it. What a robot has to see is small and rare, so a square counts by the share of object pixels in it,
and the same square seen n times counts as the root of n.

Pixels are whole numbers, and so are codes: distances between squares of up to 8 x 8 pixels are exact in float32, and
every device finds the same ids.
"""

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from vla.core.errors import ConfigError
from vla.models.codecs.k_means import k_means
from vla.models.pictures.codec import ImageCodec, require_ids, require_pictures
from vla.models.pictures.pictures import Pictures

_MOST_PATCHES, _MOST_POINTS = 300_000, 30_000
"""Squares that are looked at, and different ones that k-means sees."""
_TABLE_COUNTS = 0.02
"""What a square without object pixels counts, as a share of one that is full of them."""


class PatchCodes(ImageCodec):
    """A code for each square of ``side`` x ``side`` pixels."""

    codebook: UInt8[Tensor, "v p"]

    def __init__(self, codes: int, side: int, image_size: tuple[int, int]) -> None:
        """Codes that are all black, to be filled; sides that leave a rest are a `ConfigError`."""
        super().__init__()
        if any(length % side for length in image_size):
            raise ConfigError(
                f"image codec: patches of {side} x {side} pixels do not fill pictures of {image_size[0]} x "
                f"{image_size[1]}: set side to a number that divides both"
            )
        self.side, self.size, self.image_size = side, codes, image_size
        self.grid = image_size[0] // side, image_size[1] // side
        self.register_buffer("codebook", torch.zeros(codes, 3 * side**2, dtype=torch.uint8))

    @staticmethod
    def fit(pictures: Pictures, *, codes: int, side: int, seed: int) -> "PatchCodes":
        """Codes for these pictures; the same pictures and seed give the same."""
        codec = PatchCodes(codes, side, pictures.size)
        rng = np.random.default_rng([seed, 0x706174])
        points, weights = _points(pictures, codec, rng)
        codec.codebook.copy_(torch.from_numpy(k_means(points, codes, rng, weights).round()))
        return codec

    def encode(self, images: UInt8[Tensor, "b y x 3"]) -> Int64[Tensor, "b l"]:
        """See `ImageCodec.encode`."""
        require_pictures(images, self)
        patches = rearrange(images, "b (r y) (k x) c -> b (r k) (y x c)", y=self.side, x=self.side)
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 has not the digits to tell codes apart
            codes = self.codebook.float()
            # |x - c|² without the |x|², which is the same for all.
            distance = codes.square().sum(dim=-1) - 2 * patches.float() @ codes.T  # (b, l, v)
        return distance.argmin(dim=-1)

    def decode(self, ids: Int64[Tensor, "b l"]) -> UInt8[Tensor, "b y x 3"]:
        """See `ImageCodec.decode`."""
        require_ids(ids, self)
        rows, side = self.grid[0], self.side
        return rearrange(self.codebook[ids], "b (r k) (y x c) -> b (r y) (k x) c", r=rows, y=side, x=side)


def _points(
    pictures: Pictures, codec: PatchCodes, rng: np.random.Generator
) -> tuple[Float32[np.ndarray, "w p"], Float32[np.ndarray, " w"]]:
    """Different squares, and what each counts."""
    some = np.sort(rng.permutation(len(pictures))[: max(1, _MOST_PATCHES // codec.length)])
    chosen = pictures.of(some)
    split = {"y": codec.side, "x": codec.side}
    patches: UInt8[np.ndarray, "w p"] = rearrange(chosen.images, "b (r y) (k x) c -> (b r k) (y x c)", **split)
    objects: Bool[np.ndarray, "w p"] = rearrange(chosen.objects(), "b (r y) (k x) -> (b r k) (y x)", **split)
    squares = np.ascontiguousarray(patches).view(np.dtype((np.void, patches.shape[1])))[:, 0]
    _, first, which = np.unique(squares, return_index=True, return_inverse=True)
    weights = np.bincount(which, _TABLE_COUNTS + objects.mean(axis=1)) ** 0.5
    if len(first) > _MOST_POINTS:
        few = np.sort(rng.permutation(len(first))[:_MOST_POINTS])
        first, weights = first[few], weights[few]
    return patches[first].astype(np.float32), weights.astype(np.float32)
