"""A camera image to a few tokens: convolutions that the instruction conditions, then learned pooling.

FiLM (arXiv 1709.07871) lets the instruction choose what to look for before anything is thrown away; each token is a
weighted mean of features over the image (TokenLearner, arXiv 2106.11297) together with the mean position of its
weights (spatial softmax, arXiv 1504.00702), so a token can say *what* and *where*.
"""

import torch
from einops import einsum, rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vla.models.config import VisionConfig


class ImageTokenizer(nn.Module):
    """One camera's frames to ``tokens`` tokens."""

    def __init__(self, config: VisionConfig, width: int) -> None:
        super().__init__()
        c = config.channels
        self.stem = nn.Conv2d(3, c, 6, stride=4, padding=1)  # overlapping patches
        self.convs = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for _ in range(2))
        self.films = nn.ModuleList(nn.Linear(width, 2 * c) for _ in range(2))
        self.score = nn.Conv2d(c, config.tokens, 1)
        self.project = nn.Linear(c + 2, width)
        for film in self.films:
            for parameter in film.parameters():
                nn.init.zeros_(parameter)

    def forward(self, image: UInt8[Tensor, "b y x 3"], condition: Float[Tensor, "b e"]) -> Float[Tensor, "b k e"]:
        """Tokens of ``image`` as seen in the light of ``condition``."""
        pixels = rearrange(image, "b y x c -> b c y x").to(condition.dtype) / 127.5 - 1.0
        features = torch.relu(self.stem(pixels))
        for conv, film in zip(self.convs, self.films, strict=True):
            scale, shift = rearrange(film(condition), "b (two c) -> two b c 1 1", two=2)
            features = features + torch.relu(conv(features) * (1 + scale) + shift)
        weights = torch.softmax(rearrange(self.score(features), "b k y x -> b k (y x)"), dim=-1)
        grid = _grid(features)
        what = einsum(weights, rearrange(features, "b c y x -> b (y x) c"), "b k p, b p c -> b k c")
        where = einsum(weights, grid, "b k p, p two -> b k two")
        tokens: Tensor = self.project(torch.cat([what, where], dim=-1))
        return tokens


def _grid(features: Float[Tensor, "b c y x"]) -> Float[Tensor, "p 2"]:
    """Row and column of each cell, both from -1 to 1."""
    rows = torch.linspace(-1, 1, features.shape[2], device=features.device, dtype=features.dtype)
    columns = torch.linspace(-1, 1, features.shape[3], device=features.device, dtype=features.dtype)
    return rearrange(torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1), "y x two -> (y x) two")
