"""Per-joint bins: the default action codec, and the grounding codec.

A value is mapped linearly from [low, high] to ``bins`` cells. Targets are soft (a Gaussian of one cell or so), and a
distribution is decoded as its mean over the cells near its mode, so precision is finer than a cell while two modes
are never averaged into a third.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from vla.core.action_transform import ActionTransform
from vla.core.contract import Contract
from vla.core.errors import ContractError

_REACH = 3
"""Cells on either side of the mode that take part in the mean."""


@dataclass(frozen=True, kw_only=True)
class BinCodec:
    """Cells over [low, high] for each entry of an array of shape ``low.shape``."""

    low: Float32[np.ndarray, "*shape"]
    high: Float32[np.ndarray, "*shape"]
    bins: int
    sigma: float = 1.0
    """Deviation of the soft targets, in cells."""

    def cells(self, values: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Continuous cell coordinate in [0, bins - 1] of each value; values outside [low, high] go to the border."""
        low, high = self._limits(values)
        return ((values - low) / (high - low)).clamp(0, 1) * (self.bins - 1)

    def targets(self, values: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch bins"]:
        """Soft targets: a normalised Gaussian around each value's cell coordinate."""
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
        weight = torch.softmax(logits.float().masked_fill(~near, -torch.inf), dim=-1)
        cell = (weight * grid).sum(dim=-1)
        low, high = self._limits(cell)
        return torch.lerp(low, high, cell / (self.bins - 1))  # never outside the limits, rounding included

    def values(self, ids: Int64[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """The centre of each cell."""
        low, high = self._limits(ids)
        return torch.lerp(low, high, ids.float() / (self.bins - 1))

    def _limits(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return torch.as_tensor(self.low, device=like.device), torch.as_tensor(self.high, device=like.device)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads back exactly."""
        return {"low": self.low.tolist(), "high": self.high.tolist(), "bins": self.bins, "sigma": self.sigma}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "BinCodec":
        """Read what `to_json` wrote."""
        low, high = np.asarray(value["low"], np.float32), np.asarray(value["high"], np.float32)
        if low.shape != high.shape or not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            raise ContractError("codec: limits must be finite with low < high; the contract is damaged")
        return BinCodec(low=low, high=high, bins=int(value["bins"]), sigma=float(value["sigma"]))


@dataclass(frozen=True, kw_only=True)
class ActionCodec:
    """Chunks of absolute targets ↔ distributions over per-joint bins.

    They are coded as `ActionTransform.of` the robot says: angles relative to the present state, the gripper absolute.
    """

    codec: BinCodec
    """Limits of shape (h, d)."""
    relative_to: tuple[int | None, ...]
    """For each action dimension the index of the state dimension that it is relative to."""

    @staticmethod
    def fit(
        contract: Contract,
        state: Float32[np.ndarray, "w s"],
        actions: Float32[np.ndarray, "w h d"],
        *,
        bins: int,
        sigma: float,
        quantile: float = 0.001,
    ) -> "ActionCodec":
        """Limits from quantiles of ``w`` sampled windows; a dimension that never moves gets a width of 1e-3."""
        transform = ActionTransform.of(contract)
        offsets = transform.apply(state, actions)
        low, high = np.quantile(offsets, [quantile, 1 - quantile], axis=0).astype(np.float32)
        margin = np.maximum(0.02 * (high - low), 5e-4)
        codec = BinCodec(low=low - margin, high=high + margin, bins=bins, sigma=sigma)
        return ActionCodec(codec=codec, relative_to=transform.relative_to)

    @property
    def transform(self) -> ActionTransform:
        """What the bins code: absolute targets after this."""
        return ActionTransform(relative_to=self.relative_to)

    @property
    def horizon(self) -> int:
        """Steps of a chunk."""
        return int(self.codec.low.shape[0])

    def offsets(self, state: Float[Tensor, "b s"], actions: Float[Tensor, "b h d"]) -> Float[Tensor, "b h d"]:
        """Absolute targets to what the bins code."""
        offsets: Tensor = self.transform.apply(state, actions)
        return offsets

    def actions(self, state: Float[Tensor, "b s"], offsets: Float[Tensor, "b h d"]) -> Float[Tensor, "b h d"]:
        """The mirror of `offsets`."""
        actions: Tensor = self.transform.undo(state, offsets)
        return actions

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads back exactly."""
        return {"name": "bins", "relative_to": list(self.relative_to), **self.codec.to_json()}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "ActionCodec":
        """Read what `to_json` wrote."""
        return ActionCodec(codec=BinCodec.from_json(value), relative_to=tuple(value["relative_to"]))
