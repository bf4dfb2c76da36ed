"""Numbers as distributions over bins between two limits: what the action head and the grounding token speak in.

A value is mapped linearly from [low, high] to ``bins`` cells. Targets are soft (a Gaussian of one cell or so), and a
distribution is decoded as its mean over the cells near its mode, so precision is finer than a cell while two modes
are never averaged into a third.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vla.core.errors import ContractError

_REACH = 3
"""Cells on either side of the mode that take part in the mean."""


class SoftBins(nn.Module):
    """Cells over [low, high] for each entry of an array of shape ``low.shape``; the limits follow the device."""

    low: Tensor
    high: Tensor

    def __init__(self, low: Float[Tensor, "*low"], high: Float[Tensor, "*high"], *, bins: int, sigma: float = 1.0):
        super().__init__()
        if low.shape != high.shape or not (low.isfinite().all() and high.isfinite().all() and (low < high).all()):
            raise ContractError("codec: limits must be finite with low < high; the contract is damaged")
        self.bins = bins
        self.sigma = sigma
        """Deviation of the soft targets, in cells."""
        # Not persistent: they are fitted to data and travel in the contract, weights alone are in the weights.
        self.register_buffer("low", low.float(), persistent=False)
        self.register_buffer("high", high.float(), persistent=False)

    def cells(self, values: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Continuous cell coordinate in [0, bins - 1] of each value; values outside [low, high] go to the border."""
        return ((values - self.low) / (self.high - self.low)).clamp(0, 1) * (self.bins - 1)

    def targets(self, values: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch bins"]:
        """Soft targets: a normalised Gaussian around each value's cell coordinate."""
        # A softmax over squared distances is that Gaussian, and sums to 1 at the borders too.
        grid = torch.arange(self.bins, device=values.device, dtype=values.dtype)
        distance = (grid - self.cells(values)[..., None]) / self.sigma
        return torch.softmax(-0.5 * distance**2, dim=-1)

    def ids(self, values: Float[Tensor, "*batch"]) -> Int64[Tensor, "*batch"]:
        """The nearest cell of each value."""
        return self.cells(values).round().long()

    def decode(self, logits: Float[Tensor, "*batch bins"]) -> Float[Tensor, "*batch"]:
        """The mean over the cells near the mode of each distribution."""
        mode = logits.argmax(dim=-1, keepdim=True)
        grid = torch.arange(self.bins, device=logits.device)
        near = (grid - mode).abs() <= _REACH
        # float32: in bfloat16 the mean of cells near 256 would be off by a whole cell.
        weight = torch.softmax(logits.float().masked_fill(~near, -torch.inf), dim=-1)
        cell = (weight * grid).sum(dim=-1)
        return torch.lerp(self.low, self.high, cell / (self.bins - 1))  # never outside the limits, rounding included

    def values(self, ids: Int64[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """The centre of each cell."""
        return torch.lerp(self.low, self.high, ids.float() / (self.bins - 1))


def soft_cross_entropy(logits: Float[Tensor, "*b v"], targets: Float[Tensor, "*b v"]) -> Float[Tensor, "*b"]:
    """Cross entropy against distributions, in float32 whatever the logits are."""
    return -(targets * logits.float().log_softmax(dim=-1)).sum(dim=-1)
