"""Qwen-VL's position-aware adapter (arXiv 2308.12966, section 2.1): each picture to 256 tokens in one layer.

Queries that are learned stand in a square grid. Where a query stands, and where a patch is, is added to queries and to
keys as sines and cosines of row and column; for a grid of patches of another size they are interpolated, so pictures of
any resolution give as many tokens. As their published code has it: norms before on both sides, and one behind, then a
projection without bias.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla.models.fusion.attention import CrossAttention
from vla.models.fusion.config import CompressorConfig
from vla.models.fusion.connector import VisionConnector
from vla.models.trunk.initialisation import initialise

_EPS = 1e-6
"""Of their norms."""


class Compressor(VisionConnector):
    """As many tokens of each picture as there are queries."""

    places: Tensor

    def __init__(self, config: CompressorConfig, channels: int, width: int) -> None:
        super().__init__()
        self.side = config.side
        self.queries = nn.Parameter(torch.empty(config.side**2, width))
        self.narrow = nn.Linear(channels, width, bias=False) if channels != width else None
        self.norm_queries, self.norm_patches, self.norm_last = (nn.LayerNorm(width, eps=_EPS) for _ in range(3))
        self.attention = CrossAttention(width, width, heads=config.heads, head_dim=width // config.heads, bias=True)
        self.project = nn.Linear(width, width, bias=False)
        self.register_buffer("places", place_waves(config.side, width), persistent=False)
        initialise(self)

    def forward(self, patches: Float[Tensor, "b f p c"], there: Bool[Tensor, "b f"]) -> Float[Tensor, "b f k e"]:
        """See `VisionConnector.forward`; the patches of a picture stand in a square."""
        x = rearrange(patches, "b f p c -> (b f) p c")
        x = self.norm_patches(x if self.narrow is None else self.narrow(x))  # (bf, p, e)
        queries = repeat(self.norm_queries(self.queries) + self.places, "k e -> bf k e", bf=len(x))
        every = torch.ones(len(x), 1, x.shape[1], dtype=torch.bool, device=x.device)
        read = self.attention(queries, x + self._keys(x.shape[1]), x, every)
        made: Tensor = self.project(self.norm_last(read))
        return rearrange(made, "(b f) k e -> b f k e", b=len(patches))

    def _keys(self, patches: int) -> Float[Tensor, "p e"]:
        """Where the patches are, in the grid of the queries."""
        side = round(patches**0.5)
        assert side**2 == patches, f"{patches} patches are no square"
        if side == self.side:
            return self.places
        grid = rearrange(self.places, "(y x) e -> 1 e y x", y=self.side)
        finer = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
        return rearrange(finer, "1 e y x -> (y x) e")


def place_waves(side: int, width: int) -> Float[Tensor, "k e"]:
    """Sines and cosines of the column and then of the row of each cell of a square, of wave lengths up to 10,000."""
    frequency = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequency  # (side, e / 4)
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1).float()
    column, row = repeat(waves, "x e -> (y x) e", y=side), repeat(waves, "y e -> (y x) e", x=side)
    return torch.cat([column, row], dim=-1)
