"""A camera image to a few tokens: convolutions, then pooling by maps of which half are drawn by the instruction.

Each token is a weighted mean of features over the image (TokenLearner, arXiv 2106.11297) together with the mean
position of its weights (spatial softmax, arXiv 1504.00702), so it can say *what* and *where*. One half of the maps is
learned and fixed: they see everything. The other half are seekers: a learned query reads the instruction ("which
colour comes before *block*?") and what it finds is looked up in the features. The first seekers can be trained to
point: their maps have a target, the place of a named thing in the image, and so gradients that reach the pixels
directly. FiLM (arXiv 1709.07871) conditions the
features on the sentence as a whole.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from vla.core.errors import ConfigError
from vla.models.config import VisionConfig

_OCTAVES = 5
_SPOT = 0.1
"""Deviation of the target spot of a pointing map; the image is 2 across."""


class ImageTokenizer(nn.Module):
    """One camera's frames to ``tokens`` tokens."""

    def __init__(self, config: VisionConfig, width: int, *, points: int) -> None:
        super().__init__()
        self.points = points
        if points > config.tokens // 2:
            raise ConfigError(
                f"model.vision.tokens={config.tokens} must be at least {2 * points}: half of them can point, "
                f"and the dataset has {points} things to point at in each image"
            )
        c = config.channels
        self.stem = nn.Conv2d(3, c, 6, stride=4, padding=1)  # overlapping patches
        self.convs = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for _ in range(2))
        self.films = nn.ModuleList(nn.Linear(width, 2 * c) for _ in range(2))
        self.score = nn.Conv2d(c, config.tokens, 1)
        self.seekers = nn.Parameter(torch.empty(config.tokens // 2, width))
        self.key = nn.Linear(width, width)
        self.look = nn.Linear(width, c)
        self.project = nn.Linear(c + 2 + 4 * _OCTAVES, width)
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
    ) -> tuple[Float[Tensor, "b k e"], Float[Tensor, "b t rows columns"], Float[Tensor, "b t 2"]]:
        """Tokens of ``image``, scores of the pointing maps over its cells, and the points (row, column) they mean.

        The image is read in the light of the instruction's ``words`` and their mean ``condition``.
        """
        pixels = rearrange(image, "b y x c -> b c y x").to(condition.dtype) / 127.5 - 1.0
        features = torch.relu(self.stem(pixels))
        for conv, film in zip(self.convs, self.films, strict=True):
            scale, shift = rearrange(film(condition), "b (two c) -> two b c 1 1", two=2)
            features = features + torch.relu(conv(features) * (1 + scale) + shift)
        scores = rearrange(self.score(features), "b k y x -> b k (y x)")
        cells = rearrange(features, "b c y x -> b (y x) c")
        sought = self.look(self._read(words, valid)) @ cells.transpose(1, 2)  # (b, k / 2, p)
        scores = scores + F.pad(sought, (0, 0, 0, scores.shape[1] - sought.shape[1]))
        weights = torch.softmax(scores, dim=-1)
        height, width = features.shape[2:]
        where = weights @ _grid(height, width, like=features)  # (b, k, 2)
        tokens: Tensor = self.project(torch.cat([weights @ cells, _waves(where)], dim=-1))
        maps = rearrange(scores[:, : self.points], "b t (y x) -> b t y x", y=height)
        return tokens, maps, where[:, : self.points]

    def _read(self, words: Float[Tensor, "b l e"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b k e"]:
        """What each seeker picks out of the instruction; of a blank one, nothing."""
        scores = self.seekers @ self.key(words).transpose(1, 2)
        weights = torch.softmax(scores.masked_fill(~valid[:, None], -1e9), dim=-1)
        return weights @ words.masked_fill(~valid[..., None], 0.0)


def pointing_loss(
    scores: Float[Tensor, "b t rows columns"], target: Float[Tensor, "b t 2"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Cross entropy of the maps against a spot around each point, and how many points of a sample are in view."""
    grid = _grid(scores.shape[2], scores.shape[3], scores)
    scores = rearrange(scores, "b t y x -> b t (y x)")
    distance = ((grid - target[:, :, None]) ** 2).sum(dim=-1)  # (b, t, p)
    spot = torch.softmax(-0.5 * distance / _SPOT**2, dim=-1)
    seen = (target.abs() <= 1).all(dim=-1).to(scores.dtype)  # (b, t)
    loss = -(spot * F.log_softmax(scores, dim=-1)).sum(dim=-1)
    return (loss * seen).sum(dim=-1), seen.sum(dim=-1)


def _waves(where: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b w"]:
    """Positions with sines and cosines of them (arXiv 2006.10739): positions alone teach millimetres slowly."""
    octaves = 2.0 ** torch.arange(_OCTAVES, device=where.device) * (torch.pi / 2)
    angles = rearrange(where[..., None] * octaves, "... two o -> ... (two o)")
    return torch.cat([where, angles.sin(), angles.cos()], dim=-1)


def _grid(height: int, width: int, like: Tensor) -> Float[Tensor, "p 2"]:
    """Row and column of the centre of each cell, where the image goes from -1 to 1."""
    axes = [(2 * torch.arange(n, device=like.device, dtype=like.dtype) + 1) / n - 1 for n in (height, width)]
    return rearrange(torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1), "y x two -> (y x) two")
