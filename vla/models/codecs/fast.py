"""FAST: the cosine transform of each dimension, rounded to integers, then byte-pair encoded (arXiv 2501.09747).

The published tokenizer writes integers as characters: one that it never met is dropped without a word, and a sequence
of another length becomes a chunk of zeros. Here the alphabet is closed, so every integer between the limits is a symbol
and those outside saturate; and the grammar counts: an id may be said only if the coefficients that are then left can be
spelled with the tokens that are then left. So every sequence that it lets through has exactly h d coefficients, within
the token budget.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from vla.core.errors import ConfigError, ContractError
from vla.models.codecs.codec import ActionCodec, as_one, held, require_chunks
from vla.models.codecs.fitted import MOST_STEPS, fitted_number, fitted_value, fitted_whole, fitting_chunks
from vla.models.codecs.pairs import Merges, PairCoding, train_merges

_TRAINING_SYMBOLS = 300_000
"""Of the data, evenly spread, that merges are counted in."""
_MOST_IDS, _MOST_STATES = 8192, 2**24
"""Ids, whose pairs are a table, and tokens times coefficients, which are another."""


class Fast(ActionCodec):
    """Of all dimensions the lowest frequency first; what is missing is zero, and what is too much is left out."""

    _basis: Tensor
    _need: Tensor
    _kind: Tensor
    _least: Tensor
    _most: Tensor

    def __init__(
        self, *, shape: tuple[int, int], scale: float, low: int, high: int, merges: Merges, tokens: int | None = None
    ) -> None:
        """``low`` to ``high`` are the integers of the alphabet; ``tokens`` is the budget, by default one a symbol."""
        super().__init__()
        self._shape, self.scale, self.low, self.high = shape, scale, low, high
        count = shape[0] * shape[1]
        ids, states = high - low + 2 + len(merges), count * (tokens or count)
        if ids > _MOST_IDS or states > _MOST_STATES:
            raise ContractError(
                f"codec: {ids} ids, {shape[0]} steps of {shape[1]} dimensions in {tokens or count} tokens; expected "
                f"at most {_MOST_IDS} ids, and at most {_MOST_STATES} for steps times dimensions times tokens"
            )
        self.coding = PairCoding(high - low + 1, merges, longest=count)
        self.size, self.length = self.coding.pad + 1, tokens or count
        if self.length > count:
            raise ContractError(f"codec: a budget of {tokens} tokens, more than the {count} coefficients of a chunk")
        still = self.coding.encode(torch.full((1, count), -low))
        spelled = int((still != self.coding.pad).sum())
        if spelled > self.length:
            raise ContractError(
                f"codec: a budget of {self.length} tokens cannot spell a chunk of {shape[0]} steps and {shape[1]} "
                f"dimensions: one that stands still takes {spelled}; raise codec.tokens or codec.vocabulary"
            )
        tables = {"_basis": cosine_basis(shape[0]), **_tables(self.coding.lengths.numpy(), count, self.length)}
        for name, tensor in tables.items():
            self.register_buffer(name, tensor, persistent=False)

    @staticmethod
    def fit(
        chunks: Float[Tensor, "w h d"], *, scale: float, quantile: float, vocabulary: int, tokens: int | None
    ) -> "Fast":
        """The alphabet, the merges of the data's own integers, and the budget: what the longest of them takes."""
        values = fitting_chunks(chunks)
        h, d = values.shape[1:]
        integers = np.rint(scale * np.einsum("fh,whd->wfd", cosine_basis(h).numpy(), values))
        low, high = np.quantile(integers, [quantile, 1 - quantile], axis=0)
        # One alphabet for all coefficients; 0 is in it, since it is what a missing one is.
        least, most = min(0, int(np.floor(low.min()))), max(0, int(np.ceil(high.max())))
        symbols = most - least + 1
        if symbols + 1 > vocabulary:
            raise ConfigError(
                f"codec.vocabulary={vocabulary} is too few: the integers {least} to {most} and padding are "
                f"{symbols + 1} ids; raise it, or lower codec.scale={scale:g}"
            )
        every = -(-integers.size // _TRAINING_SYMBOLS)
        sample = rearrange(np.clip(integers[::every], least, most).astype(np.int64) - least, "w f d -> w (f d)")
        merges = train_merges(sample, symbols, most=vocabulary - symbols - 1)
        if tokens is None:
            coding = PairCoding(symbols, merges, longest=h * d)
            tokens = max(
                int((coding.encode(part) != coding.pad).sum(dim=1).max())
                for part in torch.from_numpy(sample).split(512)
            )
        return Fast(shape=(h, d), scale=scale, low=least, high=most, merges=merges, tokens=tokens)

    def integers(self, chunk: Float[Tensor, "b h d"]) -> Int64[Tensor, "b n"]:
        """The rounded coefficients, those of the lowest frequency first; those outside of the alphabet saturate."""
        # float64: what is halfway between two integers is rounded as the published algorithm rounds it.
        rounded = (self.scale * (self._basis @ chunk.double())).round().clamp(self.low, self.high)
        return rearrange(rounded.long(), "b f d -> b (f d)")

    def encode(
        self, chunk: Float[Tensor, "b h d"], valid: Bool[Tensor, "b h d"]
    ) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """See `ActionCodec.encode`; padding teaches nothing, since nothing else may follow a complete chunk."""
        require_chunks(chunk, self._shape)
        ids = self._spell(self.integers(held(chunk, valid)) - self.low)
        return ids, as_one(valid, self.length) & (ids != self.coding.pad)

    def decode(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b h d"]:
        """The inverse transform of the coefficients."""
        symbols, there = self.coding.expand(ids, self._shape[0] * self._shape[1])
        integers = torch.where(there, symbols + self.low, 0).double() / self.scale
        return (self._basis.T @ rearrange(integers, "b (f d) -> b f d", d=self._shape[1])).float()

    def allowed(self, before: Int64[Tensor, "b i"]) -> Bool[Tensor, "b v"]:
        """Ids after which the rest can be spelled with the tokens that are left; padding once nothing is."""
        return (self._need[self._left(before)] <= self.length - before.shape[1])[:, self._kind]

    def grammar(self, ids: Int64[Tensor, "b l"]) -> Bool[Tensor, "b l v"]:
        """See `ActionCodec.grammar`: running sums instead of one position after the other."""
        said = self.coding.lengths[ids]
        left = (self._need.shape[0] - 1 - said.cumsum(dim=1) + said).clamp(min=0)
        tokens = self.length - torch.arange(ids.shape[1], device=ids.device)
        return (self._need[left] <= tokens[:, None])[..., self._kind]

    def remaining(self, before: Int64[Tensor, "b i"]) -> tuple[Int64[Tensor, " b"], Int64[Tensor, " b"]]:
        """See `ActionCodec.remaining`."""
        left = self._left(before)
        return self._least[left], self._most[self.length - before.shape[1], left]

    def to_json(self) -> dict[str, Any]:
        """See `ActionCodec.to_json`."""
        h, d = self._shape
        sizes = {"horizon": h, "dims": d, "scale": self.scale, "low": self.low, "high": self.high}
        return {**sizes, "tokens": self.length, "merges": [list(pair) for pair in self.coding.merges]}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Fast":
        """Read what `to_json` wrote."""
        shape = (
            fitted_whole(value, "horizon", least=1, most=MOST_STEPS),
            fitted_whole(value, "dims", least=1, most=MOST_STEPS),
        )
        merges = fitted_value(value, "merges")
        if not isinstance(merges, list) or not all(_is_pair(pair) for pair in merges):
            raise ContractError("codec: 'merges' in the contract: expected pairs of ids; it is damaged")
        return Fast(
            shape=shape,
            scale=fitted_number(value, "scale", least=1e-6, most=1e6),
            low=fitted_whole(value, "low", least=-_MOST_IDS, most=0),
            high=fitted_whole(value, "high", least=0, most=_MOST_IDS),
            tokens=fitted_whole(value, "tokens", least=1),
            merges=[(left, right) for left, right in merges],
        )

    def _left(self, before: Int64[Tensor, "b i"]) -> Int64[Tensor, " b"]:
        """Coefficients that are still to come."""
        left: Tensor = self._need.shape[0] - 1 - self.coding.lengths[before].sum(dim=1)
        return left.clamp(min=0)

    def _spell(self, symbols: Int64[Tensor, "b n"]) -> Int64[Tensor, "b l"]:
        """Greedily; a chunk that takes more than the budget loses its highest frequencies, as many as it must."""
        h, d = self._shape
        ids = self.coding.encode(symbols)
        for kept in reversed(range(h)):
            long = (ids != self.coding.pad).sum(dim=1) > self.length
            if not bool(long.any()):
                break
            cut = symbols[long]
            cut[:, kept * d :] = -self.low
            ids[long] = self.coding.encode(cut)
        return ids[:, : self.length]


def cosine_basis(h: int) -> Float64[Tensor, "h h"]:
    """The orthonormal discrete cosine transform of type II, a frequency in each row; its transpose undoes it."""
    steps = torch.arange(h, dtype=torch.float64)
    basis: Tensor = torch.cos(torch.pi / h * (steps + 0.5) * steps[:, None]) * (2 / h) ** 0.5
    basis[0] /= 2**0.5
    return basis


def _tables(lengths: Int64[np.ndarray, " v"], count: int, budget: int) -> dict[str, Tensor]:
    """What the grammar looks up, for every number of coefficients (n + 1) that may be left.

    ``_need`` (n + 1, k) is the fewest tokens of all ways to go on with an id of this kind, itself included; ``_kind``
    (v,) is the kind of each id, that is how many symbols it stands for; ``_least`` (n + 1,) and ``_most``
    (l + 1, n + 1) are the fewest tokens in all, and the most within a budget.
    """
    kinds, kind = np.unique(lengths, return_inverse=True)  # the first kind is padding, of no symbol
    exact = np.zeros((budget + 1, count + 1), bool)  # whether so many tokens can spell so many coefficients
    exact[0, 0] = True
    for tokens in range(1, budget + 1):
        for length in kinds[1:]:
            exact[tokens, length:] |= exact[tokens - 1, : count + 1 - length]
    never = budget + 1
    least = np.where(exact.any(axis=0), exact.argmax(axis=0), never)
    most = np.maximum.accumulate(np.where(exact, np.arange(budget + 1, dtype=np.int32)[:, None], 0), axis=0)
    need = np.full((count + 1, len(kinds)), never)
    need[0, 0] = 1
    for column, length in enumerate(kinds[1:], start=1):
        need[length:, column] = 1 + least[: count + 1 - length]
    found = {"_need": need, "_kind": kind, "_least": least, "_most": most}
    return {name: torch.from_numpy(table.astype(np.int64)) for name, table in found.items()}


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(type(number) is int for number in value)
