"""A codec: each joint's motion as a few quantised cosine coefficients."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from vla.models.codecs.codec import ActionCodec
from vla.models.codecs.config import CodecConfig


@dataclass(frozen=True, kw_only=True)
class CosineConfig(CodecConfig):
    """All coefficients, each in ``levels`` levels."""

    kind: str = "example-cosine"
    levels: int = 256

    def fit(self, chunks: Tensor) -> dict[str, Any]:
        """The largest coefficient."""
        h, d = chunks.shape[1:]
        return {"reach": float((_basis(h) @ chunks).abs().max()), "horizon": h, "dims": d, "levels": self.levels}

    def build(self, fitted: Mapping[str, Any]) -> ActionCodec:
        """From what `fit` found."""
        return Cosine(**fitted)


class Cosine(ActionCodec):
    """One id for each coefficient of each joint."""

    def __init__(self, reach: float, horizon: int, dims: int, levels: int) -> None:
        super().__init__()
        self._fitted = {"reach": reach, "horizon": horizon, "dims": dims, "levels": levels}
        self.size, self.length, self._reach = levels, horizon * dims, reach
        self.register_buffer("basis", _basis(horizon), persistent=False)

    def encode(self, chunk: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients to levels; a chunk of which a step is not known is learned whole or not at all."""
        scaled = (self.basis @ chunk / self._reach).clamp(-1, 1)
        ids = ((scaled + 1) / 2 * (self.size - 1)).round().long()
        known = valid.flatten(1).all(dim=1, keepdim=True)
        return rearrange(ids, "b h d -> b (h d)"), known.expand(-1, self.length)

    def decode(self, ids: Tensor) -> Tensor:
        """The basis is orthonormal: its transpose undoes it."""
        scaled = (2 * ids.float() / (self.size - 1) - 1) * self._reach
        return self.basis.T @ rearrange(scaled, "b (h d) -> b h d", d=self._fitted["dims"])

    def allowed(self, before: Tensor) -> Tensor:
        """Anything goes."""
        return torch.ones(len(before), self.size, dtype=torch.bool, device=before.device)

    def to_json(self) -> dict[str, Any]:
        """What it was built from."""
        return dict(self._fitted)


def _basis(h: int) -> Tensor:
    """The orthonormal discrete cosine transform (h, h)."""
    n = torch.arange(h)
    basis = torch.cos(torch.pi / h * (n + 0.5) * n[:, None]) * (2 / h) ** 0.5
    basis[0] /= 2**0.5
    return basis
