"""Raw patches: each square of a picture is projected to a token, and the trunk does all of the seeing.

As a vision transformer begins (arXiv 2010.11929), and as Fuyu reads pictures, without an encoder in front of the
trunk. One projection serves all cameras, and a vector says through which a patch is seen. Where a patch is, is said in
its token, by sines and cosines of its place, and again by its position in the sequence, as in Qwen2-VL (arXiv
2409.12191): row and column of the patch, each picture behind the farthest patch of the one before it. A trunk without
rotary positions, or whose rotary positions all follow time, has the token's word alone.
"""

from collections.abc import Mapping

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vla.core.errors import ConfigError
from vla.models.readers.config import PatchesConfig
from vla.models.readers.images import Views
from vla.models.readers.reader import Activations, Reader
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs
from vla.models.trunk.interface import Interface
from vla.models.trunk.points import WAVES, cell_grid, waves
from vla.models.trunk.sequence import Segment
from vla.models.trunk.vocabulary import TokenTable


class PatchesReader(Reader):
    """Knows no size of pictures: their sides need only be whole numbers of patches."""

    def __init__(self, config: PatchesConfig, interface: Interface, width: int) -> None:
        super().__init__()
        self.size = config.size
        self.project = nn.Linear(3 * config.size**2, width)
        self.place = nn.Linear(WAVES, width)
        self.view = Views(len(interface.cameras), width)
        self.time = nn.Parameter(torch.empty(interface.history, width))
        initialise(self)

    def forward(
        self, inputs: Inputs, context: Mapping[str, Segment], table: TokenTable, activations: Activations
    ) -> Segment:
        """Tokens (t n p), of each observation and camera row by row; a side that leaves a rest is a `ConfigError`."""
        height, width = inputs.images.shape[3:5]
        if height % self.size or width % self.size:
            raise ConfigError(
                f"model.readers: patches of {self.size} x {self.size} pixels do not fill pictures of {height} x "
                f"{width}: set size to a number that divides both"
            )
        rows, columns = height // self.size, width // self.size
        pixels = inputs.images.to(self.project.weight.dtype) / 127.5 - 1.0
        patches = rearrange(
            pixels, "b t n (rows y) (columns x) c -> b t n (rows columns) (y x c)", y=self.size, x=self.size
        )
        tokens = self.project(patches)  # (b, t, n, p, e)
        places = self.place(waves(cell_grid(rows, columns, like=self.view.weight)))  # (p, e)
        return picture_segment(tokens + places, inputs, (rows, columns), view=self.view, time=self.time)


def picture_segment(
    tokens: Float[Tensor, "b t n p e"],
    inputs: Inputs,
    grid: tuple[int, int],
    *,
    view: Views,
    time: Float[Tensor, "t e"],
) -> Segment:
    """Tokens (t n p) of pictures, each of a ``grid`` of rows and columns; through which camera and when is added."""
    tokens = tokens + view.weight[:, None] + time[:, None, None]
    t, n, p = tokens.shape[1:4]
    seen = (inputs.observed[:, :, None] & inputs.camera_valid[:, None])[..., None]  # (b, t, n, 1)
    return Segment(
        x=rearrange(tokens, "b t n p e -> b (t n p) e"),
        valid=rearrange(seen.expand(-1, -1, -1, p), "b t n p -> b (t n p)"),
        block=0,
        position=patch_positions(t * n, *grid, inputs.images.device),
    )


def patch_positions(pictures: int, rows: int, columns: int, device: torch.device) -> Int64[Tensor, "l 3"]:
    """Time, row and column of the patches of ``pictures`` that are read one after the other."""
    row, column = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    cells = torch.stack([torch.zeros_like(row), row, column], dim=-1)  # (rows, columns, 3)
    starts = torch.arange(pictures, device=device) * max(rows, columns)
    positions: Tensor = rearrange(cells + starts[:, None, None, None], "k y x axes -> (k y x) axes")
    return positions
