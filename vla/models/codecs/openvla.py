"""OpenVLA's action ids: 256 edges over [-1, 1], on the last ids of a text vocabulary (arXiv 2406.09246).

A model that was grafted from OpenVLA's weights finds its actions on the text tokenizer's ids; `OpenVla.foreign` and
`OpenVla.own` say which. Two things fail silently, so they are said here: ids count down from the *unpadded* vocabulary
(32000 of Llama's padded 32064), and 256 edges have 255 centres, so the last two ids stand for the same number.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vla.core.errors import ConfigError, ContractError
from vla.models.codecs.codec import ActionCodec, require_chunks, require_tokens
from vla.models.codecs.fitted import MOST_STEPS, fitted_array, fitted_whole, fitting_chunks, plain

_EDGES = 256


class OpenVla(ActionCodec):
    """One range of 256 ids for all joints, step by step; id ``i`` is OpenVLA's digit ``i + 1``."""

    _low: Tensor
    _high: Tensor
    _edges: Tensor

    def __init__(self, low: Float[Tensor, " d"], high: Float[Tensor, " d"], *, horizon: int, vocabulary: int) -> None:
        """``low`` and ``high`` become -1 and 1."""
        super().__init__()
        if not (low < high).all():
            raise ContractError("codec: limits must have low < high; the contract is damaged")
        self._shape = horizon, len(low)
        self.vocabulary = vocabulary
        self.size, self.length = _EDGES, horizon * len(low)
        edges = torch.from_numpy(np.linspace(-1.0, 1.0, _EDGES))
        for name, tensor in (("_low", low.double()), ("_high", high.double()), ("_edges", edges)):
            self.register_buffer(name, tensor, persistent=False)

    @staticmethod
    def fit(chunks: Float[Tensor, "w h d"], *, grippers: tuple[int, ...], vocabulary: int) -> "OpenVla":
        """The 1 % and 99 % quantiles of each joint become -1 and 1, but for ``grippers``.

        OpenVLA leaves grippers outside of its quantiles: 0 is closed and 1 is open, which of scaled units are -1 and 1.
        """
        values = fitting_chunks(chunks)
        h, d = values.shape[1:]
        low, high = np.quantile(rearrange(values, "w h d -> (w h) d"), [0.01, 0.99], axis=0)
        middle, half = (low + high) / 2, np.maximum((high - low) / 2, 5e-4)  # a joint may never move
        low, high = middle - half, middle + half
        for joint in grippers:
            if not -d <= joint < d:
                raise ConfigError(f"codec.grippers: joint {joint} of {d}; count from 0, or from -1 backwards")
            low[joint], high[joint] = -3.0, 1.0  # -1 becomes 0, and 1 stays
        limits = (torch.from_numpy(np.round(end, 6)).float() for end in (low, high))
        return OpenVla(*limits, horizon=h, vocabulary=vocabulary)

    def encode(
        self, chunk: Float[Tensor, "b h d"], valid: Bool[Tensor, "b h d"]
    ) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """How many edges are at most as large as the number, less one."""
        require_chunks(chunk, self._shape)
        scaled = (2 * (chunk.double() - self._low) / (self._high - self._low) - 1).clamp(-1, 1)
        ids = torch.bucketize(scaled, self._edges, right=True) - 1
        return rearrange(ids, "b h d -> b (h d)"), rearrange(valid, "b h d -> b (h d)")

    def decode(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b h d"]:
        """Halfway between two edges; behind the last one, the last centre again."""
        require_tokens(ids, self.length)
        centres = (self._edges[1:] + self._edges[:-1]) / 2
        scaled = centres[rearrange(ids, "b (h d) -> b h d", d=self._shape[1]).clamp(0, _EDGES - 2)]
        return ((scaled + 1) / 2 * (self._high - self._low) + self._low).float()

    def allowed(self, before: Int64[Tensor, "b i"]) -> Bool[Tensor, "b v"]:
        """Any: all joints share the ids."""
        return torch.ones(len(before), _EDGES, dtype=torch.bool, device=before.device)

    def grammar(self, ids: Int64[Tensor, "b l"]) -> Bool[Tensor, "b l v"]:
        """See `ActionCodec.grammar`."""
        return torch.ones(*ids.shape, _EDGES, dtype=torch.bool, device=ids.device)

    def foreign(self, ids: Int64[Tensor, "*b"]) -> Int64[Tensor, "*b"]:
        """Ids of the text vocabulary: 31999 for the lowest of Llama's, 31744 for the highest."""
        return self.vocabulary - 1 - ids

    def own(self, foreign: Int64[Tensor, "*b"]) -> Int64[Tensor, "*b"]:
        """The mirror of `foreign`; a word that is no action is a `ContractError`."""
        first = self.vocabulary - _EDGES
        if not ((foreign >= first) & (foreign < self.vocabulary)).all():
            raise ContractError(
                f"codec: ids {int(foreign.min())} to {int(foreign.max())} of the text vocabulary, expected actions: "
                f"{first} to {self.vocabulary - 1}"
            )
        return self.vocabulary - 1 - foreign

    def to_json(self) -> dict[str, Any]:
        """See `ActionCodec.to_json`."""
        limits = {"low": plain(self._low.cpu(), 6), "high": plain(self._high.cpu(), 6)}
        return {**limits, "horizon": self._shape[0], "vocabulary": self.vocabulary}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "OpenVla":
        """Read what `to_json` wrote."""
        low = fitted_array(value, "low", None)
        return OpenVla(
            low,
            fitted_array(value, "high", len(low)),
            horizon=fitted_whole(value, "horizon", least=1, most=MOST_STEPS),
            vocabulary=fitted_whole(value, "vocabulary", least=_EDGES),
        )
