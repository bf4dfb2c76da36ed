"""RT-2's action ids: integers 0 to 255, as words or on the ids that a vocabulary uses least (arXiv 2307.15818).

A step is written as "terminate Δx Δy Δz Δrx Δry Δrz gripper". PaLI-X has a token for each such integer, so there
`write_step` and `read_step` are the layout; of PaLM-E the 256 least frequent tokens are overwritten, to which
`Rt2.foreign` and `Rt2.own` map.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vla.core.errors import ConfigError, ContractError
from vla.models.codecs.codec import ActionCodec, require_chunks, require_tokens
from vla.models.codecs.fitted import MOST_STEPS, fitted_array, fitted_value, fitted_whole, fitting_chunks
from vla.models.codecs.spacing import quantile_limits
from vla.models.trunk.soft_bins import SoftBins

_BINS = 256


class Rt2(ActionCodec):
    """One range of 256 ids for all joints, step by step; each id is the integer."""

    _words: Tensor

    def __init__(self, cells: SoftBins, *, horizon: int, words: Sequence[int]) -> None:
        """``cells`` (d,); ``words`` are the ids of a text vocabulary that stand for 0 to 255, or none."""
        super().__init__()
        if len(words) not in (0, _BINS) or len(set(words)) != len(words) or min(words, default=0) < 0:
            raise ConfigError(
                f"codec.words: expected {_BINS} different ids of a vocabulary, or none, got {len(words)} of which "
                f"{len(set(words))} differ"
            )
        self.cells = cells
        self._shape = horizon, len(cells.low)
        self.size, self.length = _BINS, horizon * len(cells.low)
        self.register_buffer("_words", torch.tensor(list(words), dtype=torch.long), persistent=False)

    @staticmethod
    def fit(chunks: Float[Tensor, "w h d"], *, quantile: float, words: Sequence[int]) -> "Rt2":
        """Limits of each joint, over all steps."""
        values = fitting_chunks(chunks)
        limits = quantile_limits(rearrange(values, "w h d -> (w h) d"), quantile)
        return Rt2(SoftBins(*limits, bins=_BINS), horizon=values.shape[1], words=words)

    def encode(
        self, chunk: Float[Tensor, "b h d"], valid: Bool[Tensor, "b h d"]
    ) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """The nearest integer of each joint, step by step."""
        require_chunks(chunk, self._shape)
        return rearrange(self.cells.ids(chunk), "b h d -> b (h d)"), rearrange(valid, "b h d -> b (h d)")

    def decode(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b h d"]:
        """The number that each integer stands for."""
        require_tokens(ids, self.length)
        return self.cells.values(rearrange(ids, "b (h d) -> b h d", d=self._shape[1]))

    def allowed(self, before: Int64[Tensor, "b i"]) -> Bool[Tensor, "b v"]:
        """Any: all joints share the ids."""
        return torch.ones(len(before), _BINS, dtype=torch.bool, device=before.device)

    def grammar(self, ids: Int64[Tensor, "b l"]) -> Bool[Tensor, "b l v"]:
        """See `ActionCodec.grammar`."""
        return torch.ones(*ids.shape, _BINS, dtype=torch.bool, device=ids.device)

    def foreign(self, ids: Int64[Tensor, "*b"]) -> Int64[Tensor, "*b"]:
        """Ids of the text vocabulary; a `ConfigError` where none were given."""
        return self._given()[ids]

    def own(self, foreign: Int64[Tensor, "*b"]) -> Int64[Tensor, "*b"]:
        """The mirror of `foreign`; a word that is no action is a `ContractError`."""
        ordered, order = self._given().sort()
        place = torch.searchsorted(ordered, foreign).clamp(max=_BINS - 1)
        other = foreign[ordered[place] != foreign]
        if len(other):
            raise ContractError(
                f"codec: id {int(other[0])} of the text vocabulary stands for no action; expected one of the {_BINS} "
                f"ids from {int(ordered[0])} to {int(ordered[-1])} in codec.words"
            )
        return order[place]

    def to_json(self) -> dict[str, Any]:
        """See `ActionCodec.to_json`."""
        limits = {"low": self.cells.low.tolist(), "high": self.cells.high.tolist()}
        return {**limits, "horizon": self._shape[0], "words": self._words.tolist()}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Rt2":
        """Read what `to_json` wrote."""
        low, words = fitted_array(value, "low", None), fitted_value(value, "words")
        if not isinstance(words, list) or not all(type(word) is int for word in words):
            raise ContractError(f"codec: 'words' in the contract: expected ids, got {words!r:.80}; it is damaged")
        cells = SoftBins(low, fitted_array(value, "high", len(low)), bins=_BINS)
        return Rt2(cells, horizon=fitted_whole(value, "horizon", least=1, most=MOST_STEPS), words=words)

    def _given(self) -> Int64[Tensor, " 256"]:
        if not len(self._words):
            raise ConfigError(
                "codec.words is empty, so integers are written as text: use write_step and read_step, or name the ids "
                "of the vocabulary that least_frequent finds"
            )
        return self._words


def write_step(integers: Sequence[int], *, terminate: bool) -> str:
    """A step as RT-2 writes it."""
    return " ".join(map(str, (int(terminate), *integers)))


def read_step(text: str, dims: int) -> tuple[bool, tuple[int, ...]]:
    """The mirror of `write_step`: whether the episode ends, and the integers; anything else is a `ContractError`."""
    words = text.split()
    numbers = [int(word) for word in words if word.isascii() and word.isdigit()]
    if not (len(words) == len(numbers) == dims + 1 and numbers[0] <= 1 and max(numbers) < _BINS):
        raise ContractError(f"codec: expected 0 or 1 and then {dims} integers from 0 to {_BINS - 1}, got {text[:80]!r}")
    return bool(numbers[0]), tuple(numbers[1:])


def least_frequent(counts: Int64[np.ndarray, " v"], *, spoken: Collection[int] = ()) -> tuple[int, ...]:
    """The 256 ids that a corpus uses least, in order: of equals the higher; none that instructions are ``spoken`` in.

    ``counts`` says how often each id of the vocabulary occurs; one that is too small is a `ConfigError`.
    """
    free = np.setdiff1d(np.arange(len(counts)), np.fromiter(spoken, np.int64, len(spoken)))
    if len(free) < _BINS:
        raise ConfigError(f"codec.words: {_BINS} ids are needed, and {len(free)} of {len(counts)} are not spoken")
    rarest = free[np.lexsort((-free, counts[free]))][:_BINS]
    return tuple(int(number) for number in np.sort(rarest))
