"""The order of samples as a pure function of a seed and a position: nothing to store, and resuming is exact.

A position is a *slot*: 0, 1, 2, ... over all epochs and all ranks. What a slot holds depends neither on the batch size
nor on the number of ranks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_ROUNDS = 8
_ROUNDS_SMALL = 24
"""For up to 4 bits: halves of 1 or 2 bits mix so slowly that with 8 rounds some pairs of items come 40 % too often."""
_LONGEST_PATTERN = 1000


@runtime_checkable
class SampleOrder(Protocol):
    """An endless sequence of item indices."""

    @property
    def size(self) -> int:
        """Slots in one epoch."""

    @property
    def seed(self) -> int:
        """What tells this order from others."""

    def at(self, slots: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """The items in these slots."""


@dataclass(frozen=True)
class Order:
    """Every epoch is another permutation of ``size`` items, computed for any position without the others.

    A Feistel network over the next power of two, applied again to what falls outside (cycle walking): Black and
    Rogaway, Ciphers with arbitrary finite domains, 2002. Rounds mix with splitmix64.
    """

    seed: int
    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size: expected at least 1 item to draw from, got {self.size}")

    def __call__(self, epoch: int | Int64[np.ndarray, " b"], index: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """The items at positions ``index`` of the epoch, or of one epoch for each position."""
        if len(index) and not (index.min() >= 0 and index.max() < self.size):
            raise IndexError(f"positions {index.min()} to {index.max()} of {self.size}")
        epochs = np.broadcast_to(np.asarray(epoch, np.uint64), index.shape)
        # An epoch is another key, not another network: no state, and epochs in one call may differ.
        keys = _mix(epochs + np.uint64(_mix_integer(self.seed & _MASK)))
        values = self._permute(index.astype(np.uint64), keys)
        # The network permutes a power of two. Walking on from outside until inside keeps it a permutation of `size`,
        # and takes fewer than two turns on average, since more than half of the power of two is inside.
        outside = np.flatnonzero(values >= self.size)
        while len(outside):
            values[outside] = self._permute(values[outside], keys[outside])
            outside = outside[values[outside] >= self.size]
        return values.astype(np.int64)

    def at(self, slots: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """The items in these slots, epoch after epoch."""
        return self(slots // self.size, slots % self.size)

    def _permute(self, values: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """A permutation of [0, 2^bits), for each key another; uint64 (b,)."""
        bits = (self.size - 1).bit_length()
        low_bits = (bits + 1) // 2
        low_mask, high_mask = np.uint64(2**low_bits - 1), np.uint64(2 ** (bits - low_bits) - 1)
        low, high = values & low_mask, values >> np.uint64(low_bits)
        for number in range(_ROUNDS if bits > 4 else _ROUNDS_SMALL):
            key = keys + np.uint64((number + 1) * _GOLDEN & _MASK)
            if number % 2:
                high = high ^ (_mix(low ^ key) & high_mask)
            else:
                low = low ^ (_mix(high ^ key) & low_mask)
        return (high << np.uint64(low_bits)) | low


@dataclass(frozen=True, eq=False)
class StratifiedOrder:
    """Draws a fixed share of the sequence from each stratum, and walks each stratum in an `Order` of its own.

    Shares are exact in every block of slots, the shortest up to 1,000 whose parts are whole numbers (2 for halves): so
    they hold in every global batch as well as its size allows. At the end of each block no item of a stratum was drawn
    more than once more than another. Shares without such a block are rounded to thousandths.
    """

    strata: Sequence[Int64[np.ndarray, " _"]]
    """The items of each stratum; they may overlap."""
    shares: Sequence[float]
    """Positive, and 1 together."""
    seed: int

    def __post_init__(self) -> None:
        if len(self.strata) != len(self.shares) or not self.strata:
            raise ValueError(f"expected a share for each stratum, got {len(self.strata)} and {len(self.shares)}")
        for number, (items, share) in enumerate(zip(self.strata, self.shares, strict=True)):
            if not share > 0 or len(items) == 0:
                raise ValueError(
                    f"stratum {number}: expected items and a positive share, got {len(items)} items and {share}; "
                    "leave it out"
                )
        if abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"shares: expected a sum of 1, got {sum(self.shares):g}; divide them by their sum")
        if 0 in self.parts:
            raise ValueError(f"shares {list(self.shares)}: expected at least 1/{_LONGEST_PATTERN} each")

    @property
    def size(self) -> int:
        """Items in all strata: what is called an epoch, although small strata repeat within it."""
        return sum(len(items) for items in self.strata)

    @cached_property
    def parts(self) -> tuple[int, ...]:
        """Slots of each stratum in one block."""
        shares = np.asarray(self.shares, np.float64)
        for length in range(1, _LONGEST_PATTERN + 1):
            parts = np.rint(shares * length)
            if np.abs(shares * length - parts).max() < 1e-6 and parts.sum() == length:
                return tuple(int(part) for part in parts)
        parts = np.floor(shares * _LONGEST_PATTERN)
        short = _LONGEST_PATTERN - int(parts.sum())
        parts[np.argsort(parts - shares * _LONGEST_PATTERN, kind="stable")[:short]] += 1  # largest remainder
        return tuple(int(part) for part in parts)

    def stratum(self, slots: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """Which stratum each slot draws from."""
        return np.searchsorted(np.cumsum(self.parts), self._place(slots), side="right").astype(np.int64)

    def at(self, slots: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """The items in these slots."""
        chosen, place = self.stratum(slots), self._place(slots)
        block = slots // sum(self.parts)
        result = np.empty(len(slots), np.int64)
        first = 0
        for number, (items, part) in enumerate(zip(self.strata, self.parts, strict=True)):
            mine = chosen == number
            # Another seed for each stratum: with one, strata of equal size would be walked in step.
            order = Order(_mix_integer((self.seed + number + 1) & _MASK), len(items))
            result[mine] = items[order.at(block[mine] * part + place[mine] - first)]
            first += part
        return result

    def _place(self, slots: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """Position in the block, shuffled in each block anew: else with two ranks and halves, each had one stratum."""
        length = sum(self.parts)
        return Order(self.seed, length)(slots // length, slots % length)


@dataclass(frozen=True, kw_only=True)
class ResumableSampler:
    """Endless batches of item indices for one rank.

    Rank ``r`` of ``w`` takes the slots ``start + r``, ``start + r + w``, ...; all ranks together take every slot once.
    The state is the number of slots used by all ranks, so a run continues exactly, also with another number of ranks
    or another batch size.
    """

    order: SampleOrder
    batch: int
    """Items of one rank in one step."""
    rank: int = 0
    world: int = 1
    start: int = 0
    """Slots used before, by all ranks."""

    def __post_init__(self) -> None:
        if self.batch < 1 or not 0 <= self.rank < self.world or self.start < 0:
            raise ValueError(
                f"expected batch >= 1, 0 <= rank < world and start >= 0, "
                f"got batch {self.batch}, rank {self.rank}, world {self.world}, start {self.start}"
            )

    def items(self, step: int) -> Int64[np.ndarray, " b"]:
        """The batch of one step, counted from ``start``."""
        # Ranks take turns, so the global batch is the same slots whatever their number.
        slots = self.start + self.rank + self.world * (step * self.batch + np.arange(self.batch, dtype=np.int64))
        return self.order.at(slots)

    def __iter__(self) -> Iterator[Int64[np.ndarray, " b"]]:
        """Batches without end."""
        step = 0
        while True:
            yield self.items(step)
            step += 1

    def state(self, steps: int) -> dict[str, int]:
        """The state after ``steps`` batches were *used*: loaders that prefetch have drawn more."""
        consumed = self.start + steps * self.batch * self.world
        return {"seed": self.order.seed, "epoch": consumed // self.order.size, "consumed": consumed}


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser; uint64 arrays wrap around silently."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def _mix_integer(x: int) -> int:
    """`_mix` of a single number."""
    return int(_mix(np.array([x], np.uint64))[0])
