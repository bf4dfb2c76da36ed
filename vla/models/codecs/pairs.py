"""Byte-pair encoding without the bytes: sequences of integers below ``symbols`` ↔ fewer ids, over a closed alphabet.

Every symbol is an id of its own, so whatever can be written as symbols can be encoded; each merge adds an id that
stands for two older ones, one behind the other.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from vla.core.errors import ContractError

_NEVER = 2**30
"""The rank of a pair that is never merged."""

Merges = Sequence[tuple[int, int]]
"""Pairs of ids; the first becomes the id ``symbols``, the second the one after it, and so on."""


class PairCoding(nn.Module):
    """Symbols ↔ ids below ``pad``; ``pad`` itself stands for nothing."""

    lengths: Tensor
    """Symbols that each id stands for (v,)."""
    _expansions: Tensor
    _ranks: Tensor

    def __init__(self, symbols: int, merges: Merges, *, longest: int) -> None:
        """``longest`` is the most symbols that an id may stand for; more is a `ContractError`."""
        super().__init__()
        self.symbols, self.merges, self.pad = symbols, tuple(merges), symbols + len(merges)
        said: list[list[int]] = [[symbol] for symbol in range(symbols)]
        ranks = torch.full((self.pad + 1, self.pad + 1), _NEVER, dtype=torch.int32)
        for rank, (left, right) in enumerate(self.merges):
            known = symbols + rank
            if not (0 <= left < known and 0 <= right < known):
                raise ContractError(
                    f"codec: merge {rank} joins {left} and {right}, expected ids below {known}; the contract is damaged"
                )
            joined = len(said[left]) + len(said[right])
            if joined > longest:
                raise ContractError(
                    f"codec: merge {rank} stands for {joined} symbols, more than the {longest} of a chunk; the "
                    "contract is damaged"
                )
            said.append(said[left] + said[right])
            ranks[left, right] = rank
        lengths = torch.tensor([*map(len, said), 0])
        expansions = torch.zeros(len(said) + 1, int(lengths.max()), dtype=torch.long)
        for number, sequence in enumerate(said):
            expansions[number, : len(sequence)] = torch.tensor(sequence)
        for name, tensor in (("lengths", lengths), ("_expansions", expansions), ("_ranks", ranks)):
            self.register_buffer(name, tensor, persistent=False)

    def encode(self, symbols: Int64[Tensor, "b n"]) -> Int64[Tensor, "b n"]:
        """Merge the pair of the lowest rank, everywhere in a sequence from left to right, until there is none."""
        ids, n = symbols, symbols.shape[1]
        while ids.shape[1] > 1:
            rank = self._ranks[ids[:, :-1], ids[:, 1:]]  # (b, m)
            first = rank.amin(dim=1, keepdim=True)
            if bool((first == _NEVER).all()):
                break
            hit = (rank == first) & (first < _NEVER)
            # Of x x x the pair x x is found twice, and merged once: every other one of a run counts.
            place = torch.arange(rank.shape[1], device=ids.device)
            before = torch.where(hit, -1, place).cummax(dim=1).values
            hit &= (place - before) % 2 == 1
            ids = self._merge(ids, hit, first)
            ids = ids[:, : int((ids != self.pad).sum(dim=1).max())]  # sequences shrink fast, and so does the work
        return F.pad(ids, (0, n - ids.shape[1]), value=self.pad)

    def _merge(self, ids: Int64[Tensor, "b n"], hit: Bool[Tensor, "b m"], rank: Tensor) -> Int64[Tensor, "b n"]:
        """The id of ``rank`` in place of each pair that begins where it is ``hit``; ``pad`` behind what is left."""
        n = ids.shape[1]
        ids = torch.where(F.pad(hit, (0, 1)), self.symbols + rank.long(), ids)
        gone = F.pad(hit, (1, 0))
        target = torch.where(gone, n, (~gone).cumsum(dim=1) - 1)  # what is gone goes to a column that is cut off
        return torch.full((len(ids), n + 1), self.pad, device=ids.device).scatter(1, target, ids)[:, :n]

    def expand(self, ids: Int64[Tensor, "b l"], count: int) -> tuple[Int64[Tensor, "b count"], Bool[Tensor, "b count"]]:
        """The first ``count`` symbols that ``ids`` stand for, and which of them there are; more are left out."""
        ids = F.pad(ids, (0, 1), value=self.pad)
        ends = self.lengths[ids].cumsum(dim=1)
        place = torch.arange(count, device=ids.device).expand(len(ids), -1).contiguous()
        token = torch.searchsorted(ends, place, right=True)  # the first that ends behind the place
        there = token < ids.shape[1]
        token = token.clamp(max=ids.shape[1] - 1)
        inside = place - (ends - self.lengths[ids]).gather(1, token)
        longest = self._expansions.shape[1]
        return self._expansions[ids.gather(1, token), inside.clamp(max=longest - 1)], there


def train_merges(sequences: Int64[np.ndarray, "w n"], symbols: int, *, most: int) -> list[tuple[int, int]]:
    """At most so many merges, each of the pair that is then most frequent in ``sequences``; of equals, the lowest.

    A pair that occurs once is not worth an id.
    """
    wall = symbols + most  # between sequences: no id, so it is in no pair
    ids = np.pad(sequences, ((0, 0), (0, 1)), constant_values=wall).ravel()
    counts = np.bincount(_pairs(ids, np.arange(len(ids) - 1), wall), minlength=wall**2).astype(np.int32)
    merges: list[tuple[int, int]] = []
    while len(merges) < most and counts.max(initial=0) >= 2:
        left, right = divmod(int(counts.argmax()), wall)
        hits = np.flatnonzero((ids[:-1] == left) & (ids[1:] == right))
        starts = np.flatnonzero(np.diff(hits, prepend=-2) > 1)  # of runs that overlap; see `PairCoding.encode`
        hits = hits[(np.arange(len(hits)) - np.repeat(starts, np.diff(starts, append=len(hits)))) % 2 == 0]
        # Only pairs that touch what is merged are counted anew.
        np.subtract.at(counts, _pairs(ids, np.concatenate([hits - 1, hits, hits + 1]), wall), 1)
        ids[hits] = symbols + len(merges)
        ids = np.delete(ids, hits + 1)
        merged = hits - np.arange(len(hits))
        np.add.at(counts, _pairs(ids, np.concatenate([merged - 1, merged]), wall), 1)
        merges.append((left, right))
    return merges


def _pairs(ids: Int64[np.ndarray, " n"], places: Int64[np.ndarray, " k"], wall: int) -> Int64[np.ndarray, " m"]:
    """The pairs that begin at these places, each once, as one number; not those with a wall in them."""
    places = np.unique(places)
    places = places[(places >= 0) & (places < len(ids) - 1)]
    left, right = ids[places], ids[places + 1]
    found: np.ndarray = (left * wall + right)[(left < wall) & (right < wall)]
    return found
