"""Points in images: which entries of a signal they are, where the cells of a feature map lie, how a place is said.

A signal says points as dimensions ``camera.thing.row`` and ``camera.thing.column`` of unit ``image``, which goes from
-1 (top, left) to 1 (bottom, right).
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vla.core.contract import Dimension
from vla.core.errors import ContractError

_OCTAVES = 5
WAVES = 2 + 4 * _OCTAVES
"""Numbers that `waves` says a place in."""

Points = tuple[tuple[tuple[int, int], ...], ...]
"""For each camera and each thing, the entries of its row and its column."""


def points_of(signal: str, dimensions: Sequence[Dimension], cameras: Sequence[str]) -> Points:
    """Read them off the names; a row without its column is a `ContractError`."""
    index = {d.name: i for i, d in enumerate(dimensions)}
    rows = [d.name for d in dimensions if d.unit == "image" and d.name.endswith(".row")]
    return tuple(
        tuple((index[name], _column(signal, index, name)) for name in rows if name.startswith(f"{camera}."))
        for camera in cameras
    )


def cell_grid(height: int, width: int, like: Tensor) -> Float[Tensor, "p 2"]:
    """Row and column of the centre of each cell, where the image goes from -1 to 1."""
    axes = [(2 * torch.arange(n, device=like.device, dtype=like.dtype) + 1) / n - 1 for n in (height, width)]
    return rearrange(torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1), "y x two -> (y x) two")


def waves(where: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b w"]:
    """Places with sines and cosines of them (arXiv 2006.10739): places alone teach millimetres slowly."""
    octaves = 2.0 ** torch.arange(_OCTAVES, device=where.device) * (torch.pi / 2)
    angles = rearrange(where[..., None] * octaves, "... two o -> ... (two o)")
    return torch.cat([where, angles.sin(), angles.cos()], dim=-1)


def _column(signal: str, index: dict[str, int], row: str) -> int:
    column = row.removesuffix("row") + "column"
    if column not in index:
        raise ContractError(f"signal {signal}: {row} has no {column} beside it")
    return index[column]
