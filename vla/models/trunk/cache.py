"""Keys and values of what has been read, so that nothing is read twice.

Two kinds with one interface. The growing one is made of new tensors at every turn: gradients flow through it, and what
was read stays as it was. The static one is allocated once, and written in place: nothing is copied and no shape changes
from one token to the next, which is what CUDA graphs need.
"""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

KeysValues = tuple[Float[Tensor, "b k l c"], Float[Tensor, "b k l c"]]
"""Of one layer; k heads of c channels."""


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What decides who sees whom; see `vla.models.trunk.attention`."""

    segment: Int64[Tensor, " l"]
    block: Int64[Tensor, " l"]
    valid: Bool[Tensor, "b l"]

    def __len__(self) -> int:
        """The number of tokens."""
        return self.valid.shape[1]

    def first(self, length: int) -> "Marks":
        """Those of the first tokens."""
        return Marks(segment=self.segment[:length], block=self.block[:length], valid=self.valid[:, :length])

    def repeated(self, times: int) -> "Marks":
        """Those of the batch ``times`` times, one after the other."""
        return Marks(segment=self.segment.clone(), block=self.block.clone(), valid=self.valid.repeat(times, 1))

    def rows(self, rows: Int64[Tensor, " r"]) -> "Marks":
        """Those of some samples."""
        return Marks(segment=self.segment, block=self.block, valid=self.valid[rows])

    def followed_by(self, other: "Marks") -> "Marks":
        """Those of both, one behind the other."""
        return Marks(
            segment=torch.cat([self.segment, other.segment]),
            block=torch.cat([self.block, other.block]),
            valid=torch.cat([self.valid, other.valid], dim=1),
        )


class Cache(ABC):
    """Keys and values of the first tokens of a sequence, and the place for those that come next."""

    marks: Marks
    """Of all keys that `put` returns."""
    start: int
    """Where among them the newest begin."""

    @abstractmethod
    def extended(self, new: Marks) -> "Cache":
        """The one that takes ``new`` tokens behind those that this one holds."""

    @abstractmethod
    def put(self, layer: int, keys: Float[Tensor, "b k q c"], values: Float[Tensor, "b k q c"]) -> KeysValues:
        """Keep those of the new tokens; returns all that the new tokens may look at.

        Putting the same again changes nothing: that is what computing a block a second time does.
        """

    @abstractmethod
    def detached(self) -> "Cache":
        """The same, through which no gradient flows."""

    @abstractmethod
    def repeated(self, times: int) -> "Cache":
        """Another one that holds the batch ``times`` times, one after the other."""


class GrowingCache(Cache):
    """For training, and where it is not known how much will come: every turn makes longer tensors."""

    def __init__(self) -> None:
        self.start = 0
        self._before: dict[int, KeysValues] = {}
        self._layers: dict[int, KeysValues] = {}

    def extended(self, new: Marks) -> "GrowingCache":
        """See `Cache.extended`; this one stays as it is."""
        longer = GrowingCache()
        longer._before = self._layers
        longer.start = len(self.marks) if self._layers else 0
        longer.marks = self.marks.followed_by(new) if self._layers else new
        return longer

    def put(self, layer: int, keys: Float[Tensor, "b k q c"], values: Float[Tensor, "b k q c"]) -> KeysValues:
        """See `Cache.put`."""
        if layer in self._before:
            old_keys, old_values = self._before[layer]
            keys, values = torch.cat([old_keys, keys], dim=2), torch.cat([old_values, values], dim=2)
        self._layers[layer] = keys, values
        return keys, values

    def first(self, length: int) -> "GrowingCache":
        """The one that holds the first tokens alone."""
        shorter = GrowingCache()
        shorter._layers = {layer: (k[:, :, :length], v[:, :, :length]) for layer, (k, v) in self._layers.items()}
        shorter.marks, shorter.start = self.marks.first(length), 0
        return shorter

    def rows(self, rows: Int64[Tensor, " r"]) -> "GrowingCache":
        """The one that holds some samples of the batch alone."""
        fewer = copy.copy(self)
        fewer._layers = {layer: (k[rows], v[rows]) for layer, (k, v) in self._layers.items()}
        fewer.marks = self.marks.rows(rows)
        return fewer

    def detached(self) -> "GrowingCache":
        """See `Cache.detached`."""
        still = copy.copy(self)
        still._layers = {layer: (k.detach(), v.detach()) for layer, (k, v) in self._layers.items()}
        return still

    def repeated(self, times: int) -> "GrowingCache":
        """See `Cache.repeated`."""
        several = copy.copy(self)
        layers = self._layers.items()
        several._layers = {layer: (k.repeat(times, 1, 1, 1), v.repeat(times, 1, 1, 1)) for layer, (k, v) in layers}
        several.marks = self.marks.repeated(times)
        return several


class _Room:
    """What all turns of a static cache share: its memory, and the turns that it holds from the first to the last."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.layers: dict[int, Tensor] = {}
        """(b, 2 k, l, c) of each: its keys, and behind them its values."""
        self.marks: Marks | None = None
        self.turns = [0]
        self.newest = 0


class StaticCache(Cache):
    """For acting: room for ``length`` tokens, allocated when the first are put, and written in place.

    Queries are given the whole room, and marks say that what has not been written is not there. One line of turns is
    kept: extended a second time, it overwrites what the first extension wrote, and what was read there is lost.
    """

    def __init__(self, length: int) -> None:
        self._room, self._turn = _Room(length), 0
        self.start = self._stop = 0

    def extended(self, new: Marks) -> "StaticCache":
        """See `Cache.extended`; a turn that has been overwritten, or too many tokens, is a `RuntimeError`."""
        room, stop = self._room, self._stop + len(new)
        if self._turn not in room.turns:
            raise RuntimeError(
                f"the {self._stop} tokens of this prefix were overwritten: an earlier one was extended once more; a "
                "static cache holds one line of extensions, so go on from the newest, or read with room=0"
            )
        if stop > room.length:
            raise RuntimeError(
                f"the cache has room for {room.length} tokens, {self._stop} are taken and {len(new)} more do not fit: "
                "the head's `room` must be what it writes behind the inputs"
            )
        room.newest += 1
        room.turns = [*room.turns[: room.turns.index(self._turn) + 1], room.newest]
        turn = copy.copy(self)
        turn._turn, turn.start, turn._stop = room.newest, self._stop, stop
        turn._mark(new)
        return turn

    def put(self, layer: int, keys: Float[Tensor, "b k q c"], values: Float[Tensor, "b k q c"]) -> KeysValues:
        """See `Cache.put`."""
        if layer not in self._room.layers:
            b, heads, _, size = keys.shape
            # Zeros: what is not there is left out by a weight of zero, and zero times an accidental NaN is NaN.
            self._room.layers[layer] = keys.new_zeros(b, 2 * heads, self._room.length, size)
        all_keys, all_values = self._room.layers[layer].chunk(2, dim=1)
        all_keys[:, :, self.start : self._stop] = keys
        all_values[:, :, self.start : self._stop] = values
        return (all_keys, all_values) if self.start else (keys, values)

    def held(self, layer: int) -> Float[Tensor, "b n l c"]:
        """The memory of a layer, n = 2 k: places of all tokens that there are and are to come, keys and then values."""
        return self._room.layers[layer]

    def detached(self) -> "StaticCache":
        """See `Cache.detached`; without gradients it is itself."""
        return self

    def repeated(self, times: int) -> "StaticCache":
        """See `Cache.repeated`; it has memory of its own."""
        several = copy.copy(self)
        several._room = copy.copy(self._room)
        several._room.layers = {layer: held.repeat(times, 1, 1, 1) for layer, held in self._room.layers.items()}
        several._room.marks = self._room.marks and self._room.marks.repeated(times)
        several.marks = several._room.marks if self.start and several._room.marks else self.marks.repeated(times)
        return several

    def _mark(self, new: Marks) -> None:
        room = self._room
        if room.marks is None:
            blank = new.block.new_zeros(2, room.length)
            room.marks = Marks(segment=blank[0], block=blank[1], valid=new.valid.new_zeros(len(new.valid), room.length))
        room.marks.segment[self.start : self._stop] = new.segment
        room.marks.block[self.start : self._stop] = new.block
        room.marks.valid[:, self.start : self._stop] = new.valid
        # What an earlier and longer extension left behind is not there any more.
        room.marks.valid[:, self._stop :].zero_()
        # The first tokens see themselves alone, so they need not look into the empty room.
        self.marks = room.marks if self.start else new
