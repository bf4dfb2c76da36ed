"""The own small towers: a picture by what stands where in it, a sentence by its words in their order.

A picture that is pooled as a whole is a bag of what is in it: "red on blue" and "blue on red" would be one vector. So
this tower looks at a few places, each by a learned map (TokenLearner, arXiv 2106.11297) that says what it found and
where (spatial softmax, arXiv 1504.00702); what was found sees each other, and all of it side by side is the vector.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from vla.models.contrastive.sides import Pictures, Sentences
from vla.models.kinds.two_tower import PictureTowerConfig, SentenceTowerConfig
from vla.models.readers.convolutions import Convolutions
from vla.models.trunk.attention import Transformer, attention_mask
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.points import WAVES, cell_grid, waves


class PictureTower(Pictures):
    """One for all cameras; which one it looks through is told."""

    def __init__(self, config: PictureTowerConfig, cameras: int, out: int) -> None:
        super().__init__()
        c, width, tokens = config.channels, config.width, config.tokens
        self.stem = Convolutions(c)
        self.score = nn.Conv2d(c, tokens, 1)
        self.found = nn.Linear(c + WAVES, width)
        self.token = nn.Parameter(torch.empty(tokens, width))
        self.view = nn.Parameter(torch.empty(cameras, width))
        self.transformer = Transformer(TransformerConfig(width=width, layers=config.layers, heads=config.heads))
        self.readout = nn.Linear(tokens * width, out)
        initialise(self)

    def forward(self, pictures: UInt8[Tensor, "b y x 3"], camera: Int64[Tensor, " b"]) -> Float[Tensor, "b o"]:
        """See `Pictures.forward`."""
        pixels = rearrange(pictures, "b y x c -> b c y x").to(self.token.dtype) / 127.5 - 1.0
        features = self.stem(pixels)
        cells = rearrange(features, "b c y x -> b (y x) c")
        rows, columns = features.shape[2:]
        grid = cell_grid(rows, columns, like=features)  # (p, 2)
        weights = rearrange(self.score(features), "b k y x -> b k (y x)").softmax(dim=-1)
        tokens = self.found(torch.cat([weights @ cells, waves(weights @ grid)], dim=-1))  # (b, k, e)
        tokens = tokens + self.token + self.view[camera][:, None]
        block = torch.zeros(tokens.shape[:2], dtype=torch.long, device=tokens.device)
        read, _ = self.transformer(tokens, attention_mask(block, torch.ones_like(block, dtype=torch.bool)))
        vector: Tensor = self.readout(rearrange(read, "b k e -> b (k e)"))
        return vector

    def units(self) -> list[nn.Module]:
        """See `Pictures.units`."""
        return list(self.transformer.blocks)


class SentenceTower(Sentences):
    """Words see each other in both directions; the mean of what they have become is the sentence."""

    def __init__(self, config: SentenceTowerConfig, words: int, longest: int, out: int) -> None:
        super().__init__()
        width = config.width
        self.words = nn.Embedding(max(1, words), width)
        self.position = nn.Parameter(torch.empty(longest, width))
        self.transformer = Transformer(TransformerConfig(width=width, layers=config.layers, heads=config.heads))
        self.readout = nn.Linear(width, out)
        initialise(self)

    def forward(self, text: Int64[Tensor, "b l"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b o"]:
        """See `Sentences.forward`."""
        words = self.words(text) + self.position[: text.shape[1]]
        read, _ = self.transformer(words, attention_mask(torch.zeros_like(text), valid))
        weight = valid[..., None].to(read.dtype)
        vector: Tensor = self.readout((read * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1))
        return vector

    def units(self) -> list[nn.Module]:
        """See `Sentences.units`."""
        return list(self.transformer.blocks)
