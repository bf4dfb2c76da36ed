"""An image codec: the mean colour of each cell, in a few levels of red, green and blue."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vla.models.pictures.codec import ImageCodec, require_ids, require_pictures
from vla.models.pictures.config import ImageCodecConfig


@dataclass(frozen=True, kw_only=True)
class MeansConfig(ImageCodecConfig):
    """Cells of ``cell`` x ``cell`` pixels."""

    kind: str = "example-means"
    cell: int = 4
    levels: int = 6

    def fit(self, pictures: Any, progress: Any) -> ImageCodec:
        """The range of brightness that there is."""
        codec = Means(self, pictures.size)
        codec.bounds.copy_(torch.tensor([float(pictures.images.min()), float(pictures.images.max())]))
        progress(1.0, "nothing to wait for")
        return codec

    def build(self, image_size: tuple[int, int]) -> ImageCodec:
        """Of any range."""
        return Means(self, image_size)


class Means(ImageCodec):
    """An id for each cell."""

    def __init__(self, config: MeansConfig, image_size: tuple[int, int]) -> None:
        super().__init__()
        self._cell, self._levels, self.size = config.cell, config.levels, config.levels**3
        self.image_size, self.grid = image_size, (image_size[0] // config.cell, image_size[1] // config.cell)
        self.register_buffer("bounds", torch.tensor([0.0, 255.0]))

    def encode(self, images: Tensor) -> Tensor:
        """Red counts most."""
        require_pictures(images, self)
        low, high = self.bounds
        means = torch.nn.functional.avg_pool2d(images.permute(0, 3, 1, 2).float(), self._cell)
        digits = ((means - low) / (high - low) * (self._levels - 1)).round().long().clamp(0, self._levels - 1)
        return ((digits[:, 0] * self._levels + digits[:, 1]) * self._levels + digits[:, 2]).flatten(1)

    def decode(self, ids: Tensor) -> Tensor:
        """Flat cells."""
        require_ids(ids, self)
        low, high = self.bounds
        digits = torch.stack([ids // self._levels**2, ids // self._levels % self._levels, ids % self._levels], dim=-1)
        cells = (digits / (self._levels - 1) * (high - low) + low).round().to(torch.uint8).view(-1, *self.grid, 3)
        return cells.repeat_interleave(self._cell, 1).repeat_interleave(self._cell, 2)
