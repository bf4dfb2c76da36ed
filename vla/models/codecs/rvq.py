"""Residual vector quantisation: a chunk as sums of centroids, coarse ones first, found by k-means (arXiv 2403.03181).

No network: the steps of a chunk are cut into groups, and each level of a group is the nearest of its centroids to what
the levels before it left over.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vla.core.errors import ConfigError
from vla.models.codecs.codec import ActionCodec, as_one, held, require_chunks, require_tokens, turns
from vla.models.codecs.fitted import MOST_STEPS, fitted_array, fitted_whole, fitting_chunks, plain
from vla.models.codecs.k_means import k_means, nearest

_FIT_CHUNKS = 8192
"""Chunks that k-means sees."""


class ResidualVectors(ActionCodec):
    """A token for each level of each group, group by group in time; each has a range of ids of its own."""

    _centroids: Tensor

    def __init__(self, centroids: Float[Tensor, "g q c n"], *, horizon: int, dims: int) -> None:
        super().__init__()
        self._shape = horizon, dims
        g, q, self._codes, _ = centroids.shape
        self.length = g * q
        self.size = self.length * self._codes
        self.register_buffer("_centroids", centroids.float(), persistent=False)

    @staticmethod
    def fit(chunks: Float[Tensor, "w h d"], *, groups: int, levels: int, codes: int, seed: int) -> "ResidualVectors":
        """K-means of each level on what is left of the data; the same data and seed give the same centroids."""
        values = fitting_chunks(chunks)
        w, h, d = values.shape
        if groups > h:
            raise ConfigError(f"codec.groups={groups} is more than the {h} steps of a chunk")
        rng = np.random.default_rng([seed, 0x727671])
        chosen = np.sort(rng.permutation(w)[:_FIT_CHUNKS])
        left = _grouped(torch.from_numpy(values[chosen]).float(), groups).numpy()  # (w, g, n)
        found = np.zeros((groups, levels, min(codes, len(left)), left.shape[-1]), np.float32)
        for group in range(groups):
            for level in range(levels):
                centroids = np.round(k_means(left[:, group], found.shape[2], rng), 4)
                found[group, level] = centroids
                left[:, group] -= centroids[nearest(left[:, group], centroids)]
        return ResidualVectors(torch.from_numpy(found), horizon=h, dims=d)

    def encode(
        self, chunk: Float[Tensor, "b h d"], valid: Bool[Tensor, "b h d"]
    ) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Greedily, level after level."""
        require_chunks(chunk, self._shape)
        left = _grouped(held(chunk, valid), self._centroids.shape[0])  # (b, g, n)
        ids = []
        for level in self._centroids.unbind(dim=1):  # (g, c, n)
            # |x - c|² without the |x|², which is the same for all.
            distance = level.square().sum(dim=-1) - 2 * torch.einsum("bgn,gcn->bgc", left, level)
            closest = distance.argmin(dim=-1)  # (b, g)
            left = left - level[torch.arange(len(level), device=level.device), closest]
            ids.append(closest)
        codes = rearrange(torch.stack(ids, dim=-1), "b g q -> b (g q)")
        return codes + self._starts(codes.device), as_one(valid, self.length)

    def decode(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b h d"]:
        """The sum of the centroids; for another position's id, the nearest of its own."""
        require_tokens(ids, self.length)
        own = (ids - self._starts(ids.device)).clamp(0, self._codes - 1)
        table = rearrange(self._centroids, "g q c n -> (g q) c n")
        vectors = table[torch.arange(self.length, device=ids.device), own]  # (b, l, n)
        g = self._centroids.shape[0]
        whole = rearrange(vectors, "b (g q) n -> b q g n", g=g).sum(dim=1)
        steps = rearrange(whole, "b g (s d) -> b (g s) d", d=self._shape[1])
        return steps[:, : self._shape[0]]

    def allowed(self, before: Int64[Tensor, "b i"]) -> Bool[Tensor, "b v"]:
        """The centroids of the level and group that is due."""
        due = torch.full((len(before),), before.shape[1], device=before.device)
        return turns(due, of=self.length, each=self._codes)

    def grammar(self, ids: Int64[Tensor, "b l"]) -> Bool[Tensor, "b l v"]:
        """See `ActionCodec.grammar`: here it depends on the position alone."""
        due = torch.arange(ids.shape[1], device=ids.device)
        return turns(due, of=self.length, each=self._codes).expand(len(ids), -1, -1)

    def to_json(self) -> dict[str, Any]:
        """See `ActionCodec.to_json`."""
        h, d = self._shape
        return {"horizon": h, "dims": d, "centroids": plain(self._centroids.cpu(), 4)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "ResidualVectors":
        """Read what `to_json` wrote."""
        h, d = (
            fitted_whole(value, "horizon", least=1, most=MOST_STEPS),
            fitted_whole(value, "dims", least=1, most=MOST_STEPS),
        )
        groups = len(fitted_array(value, "centroids", None, None, None, None))
        centroids = fitted_array(value, "centroids", groups, None, None, -(-h // groups) * d)
        return ResidualVectors(centroids, horizon=h, dims=d)

    def _starts(self, device: torch.device) -> Int64[Tensor, " l"]:
        return torch.arange(self.length, device=device) * self._codes


def _grouped(chunk: Float[Tensor, "b h d"], groups: int) -> Float[Tensor, "b g n"]:
    """The steps in groups of equal length; the last step is repeated where they do not come out even."""
    h = chunk.shape[1]
    missing = -(-h // groups) * groups - h
    whole = torch.cat([chunk, repeat(chunk[:, -1], "b d -> b m d", m=missing)], dim=1)
    return rearrange(whole, "b (g s) d -> b g (s d)", g=groups)
