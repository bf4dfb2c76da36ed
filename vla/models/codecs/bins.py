"""Per-joint bins: a token for each joint of each step, joint by joint and step by step (RT-1, arXiv 2212.06817)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vla.models.codecs.codec import ActionCodec, fitted_value
from vla.models.trunk.soft_bins import SoftBins


class Bins(ActionCodec):
    """Each joint has a range of ids of its own, and each joint of each step has limits of its own."""

    def __init__(self, cells: SoftBins) -> None:
        super().__init__()
        self.cells = cells
        """Limits of shape (h, d), in scaled units."""
        h, self._dims = cells.low.shape
        self.size, self.length = self._dims * cells.bins, h * self._dims

    @staticmethod
    def fit(chunks: Float[Tensor, "w h d"], *, bins: int, quantile: float) -> "Bins":
        """Limits from quantiles of ``w`` chunks; a dimension that never moves gets a width of 1e-3."""
        values = chunks.double().numpy()
        low, high = np.quantile(values, [quantile, 1 - quantile], axis=0)
        # Quantiles cut what a teleoperator did once by accident; the margin gives the rest room. The least width keeps
        # a dimension that never moves from dividing by nothing.
        margin = np.maximum(0.02 * (high - low), 5e-4)
        limits = (torch.from_numpy(array.astype(np.float32)) for array in (low - margin, high + margin))
        return Bins(SoftBins(*limits, bins=bins))

    def encode(
        self, chunk: Float[Tensor, "b h d"], valid: Bool[Tensor, "b h d"]
    ) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """The nearest bin of each joint of each step, step by step."""
        ids = self.cells.ids(chunk) + self._starts(chunk.device)
        return rearrange(ids, "b h d -> b (h d)"), rearrange(valid, "b h d -> b (h d)")

    def decode(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b h d"]:
        """The centre of each bin."""
        return self.cells.values(rearrange(ids, "b (h d) -> b h d", d=self._dims) - self._starts(ids.device))

    def allowed(self, before: Int64[Tensor, "b i"]) -> Bool[Tensor, "b v"]:
        """The bins of the joint that is due."""
        # Joint by joint within a step: the number of ids so far says whose turn it is.
        due = before.shape[1] % self._dims
        joints = torch.arange(self.size, device=before.device) // self.cells.bins
        return (joints == due).expand(len(before), -1)

    def grammar(self, ids: Int64[Tensor, "b l"]) -> Bool[Tensor, "b l v"]:
        """See `ActionCodec.grammar`: here it depends on the position alone."""
        joints = torch.arange(self.size, device=ids.device) // self.cells.bins
        due = torch.arange(ids.shape[1], device=ids.device) % self._dims
        return (joints == due[:, None]).expand(len(ids), -1, -1)

    def to_json(self) -> dict[str, Any]:
        """See `ActionCodec.to_json`."""
        return {"low": self.cells.low.tolist(), "high": self.cells.high.tolist(), "bins": self.cells.bins}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Bins":
        """Read what `to_json` wrote."""
        low, high = (torch.tensor(fitted_value(value, end)) for end in ("low", "high"))
        return Bins(SoftBins(low, high, bins=int(fitted_value(value, "bins"))))

    def _starts(self, device: torch.device) -> Int64[Tensor, " d"]:
        return torch.arange(self._dims, device=device) * self.cells.bins
