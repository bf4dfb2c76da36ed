"""What the baselines see: an instruction as a vector, and a camera's picture as features in its light."""

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from vla.models.trunk.points import cell_grid


class Sentence(nn.Module):
    """A bag of words: the mean of their embeddings, through a small network."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(max(1, words), width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, text: Int64[Tensor, "b l"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b e"]:
        """Of a blank one, what the network makes of nothing."""
        weight = valid[..., None].to(self.words.weight.dtype)
        mixed: Tensor = self.mix((self.words(text) * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1))
        return mixed


class Camera(nn.Module):
    """Convolutions of stride 2, each conditioned on the sentence (FiLM, arXiv 1709.07871); one for all cameras."""

    def __init__(self, channels: Sequence[int], condition: int) -> None:
        super().__init__()
        sizes = [3, *channels]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 5 if i == 0 else 3, stride=2, padding=2 if i == 0 else 1)
            for i, (before, after) in enumerate(zip(sizes, channels, strict=False))
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, after) for after in channels)
        self.films = nn.ModuleList(nn.Linear(condition, 2 * after) for after in channels)
        for film in self.films:  # nothing is said at first
            for parameter in film.parameters():
                nn.init.zeros_(parameter)

    def forward(self, image: UInt8[Tensor, "b y x 3"], condition: Float[Tensor, "b e"]) -> Float[Tensor, "b c h w"]:
        """Features of a picture; sides shrink by 2 to the number of stages."""
        features = rearrange(image, "b y x c -> b c y x").to(condition.dtype) / 127.5 - 1.0
        for conv, norm, film in zip(self.convs, self.norms, self.films, strict=True):
            scale, shift = rearrange(film(condition), "b (two c) -> two b c 1 1", two=2)
            features = torch.relu(norm(conv(features)) * (1 + scale) + shift)
        return features


def known_rows(model: nn.Module, words: Sequence[str], robots: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """What the rows of the tensors that all baselines have stand for: see `vla.models.model.Model.rows`."""
    known = {
        "sentence.words.weight": [f"text {word}" for word in words],
        "embodiment": [f"robot {name}" for name in robots],
    }
    own = model.state_dict()
    return {name: rows for name, rows in known.items() if len(own[name]) == len(rows)}


def spatial_softmax(scores: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k 2"]:
    """The mean place (row, column) of each map, in a picture that goes from -1 to 1 (arXiv 1504.00702)."""
    height, width = scores.shape[2:]
    weights = rearrange(scores, "b k h w -> b k (h w)").softmax(dim=-1)
    return weights @ cell_grid(height, width, like=scores)
