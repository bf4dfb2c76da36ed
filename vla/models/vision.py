"""A camera image to a few tokens: convolutions, then pooling by maps of which half are drawn by the instruction.

Each token is a weighted mean of features over the image (TokenLearner, arXiv 2106.11297) together with the mean
position of its weights (spatial softmax, arXiv 1504.00702), so it can say *what* and *where*. One half of the maps is
learned and fixed: they see everything. The other half are seekers: a learned query reads the instruction ("which
colour comes before *block*?") and what it finds is looked up in the features. FiLM (arXiv 1709.07871) conditions the
features on the sentence as a whole.
"""

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, UInt8
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
        self.seekers = nn.Parameter(torch.empty(config.tokens // 2, width))
        self.key = nn.Linear(width, width)
        self.look = nn.Linear(width, c)
        self.project = nn.Linear(c + 2, width)
        # Sharp and different maps from the start: with PyTorch's default they are all nearly flat, every token is the
        # mean of the image, and finding anything takes several times as many samples.
        nn.init.normal_(self.score.weight, std=0.6)
        nn.init.normal_(self.seekers, std=0.5)
        nn.init.normal_(self.look.weight, std=1.8 * width**-0.5)
        for film in self.films:
            for parameter in film.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self,
        image: UInt8[Tensor, "b y x 3"],
        words: Float[Tensor, "b l e"],
        valid: Bool[Tensor, "b l"],
        condition: Float[Tensor, "b e"],
    ) -> Float[Tensor, "b k e"]:
        """Tokens of ``image`` as seen in the light of the instruction's ``words`` and their mean ``condition``."""
        pixels = rearrange(image, "b y x c -> b c y x").to(condition.dtype) / 127.5 - 1.0
        features = torch.relu(self.stem(pixels))
        for conv, film in zip(self.convs, self.films, strict=True):
            scale, shift = rearrange(film(condition), "b (two c) -> two b c 1 1", two=2)
            features = features + torch.relu(conv(features) * (1 + scale) + shift)
        scores = rearrange(self.score(features), "b k y x -> b k (y x)")
        cells = rearrange(features, "b c y x -> b (y x) c")
        sought = self.look(self._read(words, valid)) @ cells.transpose(1, 2)  # (b, k / 2, p)
        weights = torch.softmax(scores + F.pad(sought, (0, 0, 0, scores.shape[1] - sought.shape[1])), dim=-1)
        grid = _grid(features)
        what = weights @ cells
        where = einsum(weights, grid, "b k p, p two -> b k two")
        tokens: Tensor = self.project(torch.cat([what, where], dim=-1))
        return tokens

    def _read(self, words: Float[Tensor, "b l e"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b k e"]:
        """What each seeker picks out of the instruction; of a blank one, nothing."""
        scores = self.seekers @ self.key(words).transpose(1, 2)
        weights = torch.softmax(scores.masked_fill(~valid[:, None], -1e9), dim=-1)
        return weights @ words.masked_fill(~valid[..., None], 0.0)


def _grid(features: Float[Tensor, "b c y x"]) -> Float[Tensor, "p 2"]:
    """Row and column of each cell, both from -1 to 1."""
    rows = torch.linspace(-1, 1, features.shape[2], device=features.device, dtype=features.dtype)
    columns = torch.linspace(-1, 1, features.shape[3], device=features.device, dtype=features.dtype)
    return rearrange(torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1), "y x two -> (y x) two")
