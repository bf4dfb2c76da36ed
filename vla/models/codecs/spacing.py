"""How bins are spaced: increasing maps of values to a coordinate in which all cells are of one width, and back."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float64
from torch import Tensor, nn

from vla.core.errors import ContractError
from vla.models.codecs.fitted import fitted_array, plain
from vla.models.trunk.soft_bins import SoftBins

_MU, _M = 100.0, 256.0
"""Of Gato: how curved the logarithm is, and the value that becomes 1."""
_LEAST = 1e-5
"""Least width of a cell between quantiles, relative to the largest edge if that is above 1; float32 resolves it."""


class Spacing(nn.Module, ABC):
    """An increasing map of the values of chunks (h, d)."""

    @abstractmethod
    def warp(self, values: Float[Tensor, "b h d"]) -> Float[Tensor, "b h d"]:
        """Values to the coordinate in which cells are uniform."""

    @abstractmethod
    def unwarp(self, coordinate: Float[Tensor, "b h d"]) -> Float[Tensor, "b h d"]:
        """The mirror of `warp`."""

    @staticmethod
    @abstractmethod
    def fit(values: Float64[np.ndarray, "w h d"], *, bins: int, quantile: float) -> "tuple[Spacing, SoftBins]":
        """The map, and its cells; values beyond ``quantile``, on either side, go to the outermost."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What was fitted, beside the limits of the cells."""

    @staticmethod
    @abstractmethod
    def from_json(value: Mapping[str, Any], cells: SoftBins) -> "Spacing":
        """Read what `to_json` wrote."""


class Uniform(Spacing):
    """Cells of one width between the limits."""

    def warp(self, values: Float[Tensor, "b h d"]) -> Float[Tensor, "b h d"]:
        """Values are the coordinate."""
        return values

    def unwarp(self, coordinate: Float[Tensor, "b h d"]) -> Float[Tensor, "b h d"]:
        """The coordinate is the value."""
        return coordinate

    @staticmethod
    def fit(values: Float64[np.ndarray, "w h d"], *, bins: int, quantile: float) -> "tuple[Spacing, SoftBins]":
        """Only the limits."""
        return Uniform(), SoftBins(*quantile_limits(values, quantile), bins=bins)

    def to_json(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    @staticmethod
    def from_json(value: Mapping[str, Any], cells: SoftBins) -> "Uniform":
        """Nothing to read."""
        return Uniform()


class MuLaw(Spacing):
    """Gato's companding (arXiv 2205.06175): cells are narrow near 0 and grow with the size of a value.

    Gato's cells lie between ±1, that is ±256 before the map; of scaled actions more than half of them would never be
    used, so here they lie between the data's own limits.
    """

    def warp(self, values: Float[Tensor, "b h d"]) -> Float[Tensor, "b h d"]:
        """F(x) = sgn(x) ln(µ|x| + 1) / ln(µM + 1), µ = 100, M = 256."""
        return values.sign() * (_MU * values.abs()).log1p() / math.log1p(_MU * _M)

    def unwarp(self, coordinate: Float[Tensor, "b h d"]) -> Float[Tensor, "b h d"]:
        """The inverse of F."""
        return coordinate.sign() * (coordinate.abs() * math.log1p(_MU * _M)).expm1() / _MU

    @staticmethod
    def fit(values: Float64[np.ndarray, "w h d"], *, bins: int, quantile: float) -> "tuple[Spacing, SoftBins]":
        """Only the limits, in the coordinate."""
        spacing = MuLaw()
        warped = spacing.warp(torch.from_numpy(values)).numpy()
        return spacing, SoftBins(*quantile_limits(warped, quantile), bins=bins)

    def to_json(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    @staticmethod
    def from_json(value: Mapping[str, Any], cells: SoftBins) -> "MuLaw":
        """Nothing to read."""
        return MuLaw()


class Quantiles(Spacing):
    """Cells that each hold as many values of the data: their edges are its quantiles, at each joint of each step."""

    edges: Tensor

    def __init__(self, edges: Float[Tensor, "n h d"]) -> None:
        super().__init__()
        edges = rearrange(edges.float(), "n h d -> h d n").contiguous()
        if not (edges.diff(dim=-1) > 0).all():
            raise ContractError("codec: edges must increase from cell to cell; the contract is damaged")
        self.register_buffer("edges", edges, persistent=False)

    def warp(self, values: Float[Tensor, "b h d"]) -> Float[Tensor, "b h d"]:
        """The number of the cell, and how far in it: ``k - 0.5`` at its lower edge, ``k + 0.5`` at its upper one."""
        low, high = self.edges[..., :1], self.edges[..., -1:]
        inside = rearrange(values, "b h d -> h d b").clamp(low, high).contiguous()
        cell = (torch.searchsorted(self.edges, inside, right=True) - 1).clamp(0, self.edges.shape[-1] - 2)
        lower, upper = self.edges.gather(2, cell), self.edges.gather(2, cell + 1)
        return rearrange(cell + (inside - lower) / (upper - lower) - 0.5, "h d b -> b h d")

    def unwarp(self, coordinate: Float[Tensor, "b h d"]) -> Float[Tensor, "b h d"]:
        """Linear within each cell, so the middle of a cell is halfway between its edges."""
        place = rearrange(coordinate, "b h d -> h d b") + 0.5
        cell = place.floor().clamp(0, self.edges.shape[-1] - 2).long()
        lower, upper = self.edges.gather(2, cell), self.edges.gather(2, cell + 1)
        return rearrange(torch.lerp(lower, upper, (place - cell).clamp(0, 1)), "h d b -> b h d")

    @staticmethod
    def fit(values: Float64[np.ndarray, "w h d"], *, bins: int, quantile: float) -> "tuple[Spacing, SoftBins]":
        """One edge more than there are cells."""
        edges = np.quantile(values, np.linspace(quantile, 1 - quantile, bins + 1), axis=0)  # (n, h, d)
        # A gripper is at one of two values nearly always, and many quantiles are one number: those are spread a little
        # around it, half by pushing each up from below and half by pushing each down from above.
        steps = _LEAST * np.maximum(1.0, np.abs(edges).max(axis=0)) * np.arange(bins + 1)[:, None, None]
        up, down = np.maximum.accumulate(edges - steps), np.minimum.accumulate((edges - steps)[::-1])[::-1]
        edges = (up + down) / 2 + steps
        zeros = torch.zeros(values.shape[1:])
        spacing = Quantiles(torch.from_numpy(np.round(edges, 6)))
        return spacing, SoftBins(zeros, zeros + bins - 1, bins=bins)

    def to_json(self) -> dict[str, Any]:
        """The edges (n, h, d)."""
        return {"edges": plain(rearrange(self.edges, "h d n -> n h d").cpu(), 6)}

    @staticmethod
    def from_json(value: Mapping[str, Any], cells: SoftBins) -> "Quantiles":
        """Read what `to_json` wrote."""
        return Quantiles(fitted_array(value, "edges", cells.bins + 1, *cells.low.shape))


SPACINGS: dict[str, type[Spacing]] = {"uniform": Uniform, "quantile": Quantiles, "mu-law": MuLaw}


def quantile_limits(
    values: Float64[np.ndarray, "w *s"], quantile: float
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Limits of each entry: its quantiles, with a margin; one that never moves gets a width of 1e-3."""
    low, high = np.quantile(values, [quantile, 1 - quantile], axis=0)
    # Quantiles cut what a teleoperator did once by accident; the margin gives the rest room. The least width keeps
    # a dimension that never moves from dividing by nothing.
    margin = np.maximum(0.02 * (high - low), 5e-4)
    return torch.from_numpy((low - margin).astype(np.float32)), torch.from_numpy((high + margin).astype(np.float32))
