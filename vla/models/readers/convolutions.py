"""Convolutions before a tower: what a small one learns from few pictures, which patches alone do not teach it.

A vision transformer whose patches are projected needs millions of pictures until neighbours mean anything; a few
convolutions in that place know it from the start (arXiv 2106.14881). Where a cell lies is added to what is in it, in
sines and cosines: so what is learned at one place holds at its neighbours.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vla.models.readers.tower_config import CELL
from vla.models.trunk.points import WAVES, cell_grid, waves


class Convolutions(nn.Module):
    """Overlapping patches, two layers of neighbours, and places."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 6, stride=CELL, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.place = nn.Linear(WAVES, channels)

    def forward(self, pixels: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c rows columns"]:
        """Of pictures with colours around zero, what is in each cell of `CELL` pixels, and where it is."""
        features = torch.relu(self.stem(pixels))
        for conv in self.convs:
            features = features + torch.relu(conv(features))
        rows, columns = features.shape[2:]
        places = self.place(waves(cell_grid(rows, columns, like=features)))  # (p, c)
        cells: Tensor = features + rearrange(places, "(y x) c -> c y x", y=rows)
        return cells
