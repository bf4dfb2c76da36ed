"""Per-joint bins: a token for each joint of each step, joint by joint and step by step (RT-1, arXiv 2212.06817)."""

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vla.core.lookup import lookup
from vla.models.codecs.codec import ActionCodec, require_chunks, require_tokens, turns
from vla.models.codecs.fitted import fitted_array, fitted_whole, fitting_chunks
from vla.models.codecs.spacing import SPACINGS, Spacing, Uniform
from vla.models.trunk.soft_bins import SoftBins


class Bins(ActionCodec):
    """Each joint has a range of ids of its own, and each joint of each step has limits of its own."""

    def __init__(self, cells: SoftBins, spacing: Spacing | None = None) -> None:
        super().__init__()
        self.cells = cells
        """Limits of shape (h, d), in the coordinate of the spacing; of the uniform one, in scaled units."""
        self.spacing = spacing or Uniform()
        self._shape = h, d = (cells.low.shape[0], cells.low.shape[1])
        self.size, self.length = d * cells.bins, h * d

    @staticmethod
    def fit(chunks: Float[Tensor, "w h d"], *, bins: int, quantile: float, spacing: str = "uniform") -> "Bins":
        """Limits from quantiles of ``w`` chunks; a dimension that never moves gets a width of 1e-3."""
        kind = lookup("spacing of bins", spacing, SPACINGS)
        fitted, cells = kind.fit(fitting_chunks(chunks), bins=bins, quantile=quantile)
        return Bins(cells, fitted)

    def encode(
        self, chunk: Float[Tensor, "b h d"], valid: Bool[Tensor, "b h d"]
    ) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """The nearest bin of each joint of each step, step by step."""
        require_chunks(chunk, self._shape)
        ids = self.cells.ids(self.spacing.warp(chunk)) + self._starts(chunk.device)
        return rearrange(ids, "b h d -> b (h d)"), rearrange(valid, "b h d -> b (h d)")

    def decode(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b h d"]:
        """The centre of each bin; of another joint's bin, the nearest of its own."""
        require_tokens(ids, self.length)
        own = rearrange(ids, "b (h d) -> b h d", d=self._shape[1]) - self._starts(ids.device)
        return self.spacing.unwarp(self.cells.values(own.clamp(0, self.cells.bins - 1)))

    def allowed(self, before: Int64[Tensor, "b i"]) -> Bool[Tensor, "b v"]:
        """The bins of the joint that is due."""
        # Joint by joint within a step: the number of ids so far says whose turn it is.
        due = torch.full((len(before),), before.shape[1] % self._shape[1], device=before.device)
        return turns(due, of=self._shape[1], each=self.cells.bins)

    def grammar(self, ids: Int64[Tensor, "b l"]) -> Bool[Tensor, "b l v"]:
        """See `ActionCodec.grammar`: here it depends on the position alone."""
        due = torch.arange(ids.shape[1], device=ids.device) % self._shape[1]
        return turns(due, of=self._shape[1], each=self.cells.bins).expand(len(ids), -1, -1)

    def to_json(self) -> dict[str, Any]:
        """See `ActionCodec.to_json`; of uniform spacing nothing is said, as before there were others."""
        limits = {"low": self.cells.low.tolist(), "high": self.cells.high.tolist(), "bins": self.cells.bins}
        name = next(name for name, kind in SPACINGS.items() if type(self.spacing) is kind)
        return limits if name == "uniform" else {**limits, "spacing": name, **self.spacing.to_json()}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Bins":
        """Read what `to_json` wrote."""
        low = fitted_array(value, "low", None, None)
        high = fitted_array(value, "high", *low.shape)
        cells = SoftBins(low, high, bins=fitted_whole(value, "bins", least=2))
        kind = lookup("spacing of bins", str(value.get("spacing", "uniform")), SPACINGS)
        return Bins(cells, kind.from_json(value, cells))

    def _starts(self, device: torch.device) -> Int64[Tensor, " d"]:
        return torch.arange(self._shape[1], device=device) * self.cells.bins
