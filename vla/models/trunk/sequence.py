"""The one token sequence: parts that know nothing of each other, put one behind the other.

A `Segment` is some tokens with one block number, or one for each token. Concatenation makes the sequence; the
attention rule (`vla.models.trunk.attention`) makes the mask from the block numbers alone. A `Prefix` is what comes
before the next tokens: extending it gives a new one and leaves the old one as it was, so it can be read from twice.

A token is at a (time, row, column) of its segment, and each segment begins behind the farthest of the one before it, as
in Qwen2-VL (arXiv 2409.12191): the place of a picture's patch in the sequence depends on where it is in the picture.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vla.models.trunk.attention import Transformer
from vla.models.trunk.block import Aside
from vla.models.trunk.cache import Cache, GrowingCache, Marks, StaticCache
from vla.models.trunk.line import Line, static_line

Place = int | Int64[Tensor, ""]
"""Of a segment's first token: a number where all segments before it are of a length that is known."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Some tokens of a sequence."""

    x: Float[Tensor, "b l e"]
    valid: Bool[Tensor, "b l"]
    """False for padding, and for what a robot lacks: seen by nobody."""
    block: int | Int64[Tensor, " l"]
    """Sees its own block and those below; see `vla.models.trunk.attention`."""
    segment: int | Int64[Tensor, " l"] = 0
    """Which of the sequences that share a row; see `vla.models.trunk.packing`."""
    position: Int64[Tensor, "l 3"] | None = None
    """Time, row and column of each token, from the beginning of the segment; by default 0, 1, 2, … on all three."""
    aside: bool = False
    """They are no part of the sequence: what is behind them looks at them by cross-attention."""
    span: Place | None = None
    """Places that it takes, however many tokens it has: what is behind it does not move with its padding."""

    @staticmethod
    def of(x: Float[Tensor, "b l e"], block: int | Int64[Tensor, " l"]) -> "Segment":
        """Tokens that are all valid."""
        return Segment(x=x, valid=torch.ones(x.shape[:2], dtype=torch.bool, device=x.device), block=block)

    def marks(self) -> Marks:
        """What decides who sees whom."""
        return Marks(segment=self._each(self.segment), block=self._each(self.block), valid=self.valid)

    def positions(self, start: Place) -> Int64[Tensor, "l 3"]:
        """Where its tokens are if it begins at ``start``."""
        if self.position is not None:
            return self.position + start
        return (torch.arange(self.x.shape[1], device=self.x.device) + start)[:, None].expand(-1, 3)

    def _each(self, number: int | Int64[Tensor, " l"]) -> Int64[Tensor, " l"]:
        # Filled on the device: a number that is copied there makes the host wait, and cannot be captured in a graph.
        length = self.valid.shape[1]
        if isinstance(number, int):
            return torch.full((length,), number, device=self.valid.device)
        return number.to(self.valid.device)

    def next(self, start: Place) -> Place:
        """Where the segment behind it begins."""
        if self.span is not None:
            return start + self.span
        return start + (self.x.shape[1] if self.position is None else self.position.amax() + 1)


def joined(parts: Sequence[Segment]) -> Segment:
    """One segment of several, each of which begins where the one before it ends."""
    if all(part.position is None and part.span is None for part in parts):
        return side_by_side(parts, None)
    start: Place = 0
    positions = []
    for part in parts:
        positions.append(part.positions(start))
        start = part.next(start)
    whole = side_by_side(parts, torch.cat(positions))
    return whole if all(part.span is None for part in parts) else replace(whole, span=start)


def side_by_side(parts: Sequence[Segment], position: Int64[Tensor, "l 3"] | None) -> Segment:
    """One segment of several, whose tokens are where ``position`` says."""
    marks = [part.marks() for part in parts]
    return Segment(
        x=torch.cat([part.x for part in parts], dim=1),  # (b, l, e)
        valid=torch.cat([mark.valid for mark in marks], dim=1),
        block=torch.cat([mark.block for mark in marks]),
        segment=torch.cat([mark.segment for mark in marks]),
        position=position,
    )


def causal(segments: Mapping[str, Segment]) -> dict[str, Segment]:
    """The same, in which each token sees those before it alone; all of them in blocks below 0."""
    block = -sum(part.x.shape[1] for part in segments.values())
    ordered = {}
    for name, part in segments.items():
        blocks = torch.arange(block, block + part.x.shape[1], device=part.x.device)
        ordered[name], block = replace(part, block=blocks), block + part.x.shape[1]
    return ordered


def laid_aside(segments: Iterable[Segment]) -> Aside | None:
    """What is no part of the sequence, and behind how many of its tokens each stands; None where all is part of it."""
    place, parts = 0, []
    for part in segments:
        if part.aside:
            places = torch.full((part.x.shape[1],), place, device=part.x.device)
            parts.append(Aside(x=part.x, valid=part.valid, place=places))
        else:
            place += part.x.shape[1]
    return Aside.joined(parts) if parts else None


class Prefix(ABC):
    """The tokens before the next ones, to go on from as often and in as many ways as a head likes."""

    valid: Bool[Tensor, "b l"]
    """Which of its tokens are no padding."""

    @abstractmethod
    def extend(self, trunk: Transformer, segment: Segment) -> tuple[Float[Tensor, "b q e"], "Prefix"]:
        """Read ``segment`` behind it: its hidden states, and the longer prefix."""

    def ahead(self, trunk: Transformer, like: Float[Tensor, "b e"], length: int, block: int) -> Line:
        """At most ``length`` tokens behind it, which will be read one after the other and are ``like`` those.

        Each is a block of its own, from ``block`` on, so it sees all before it.
        """
        return _Extended(self, trunk, block)

    @abstractmethod
    def detached(self) -> "Prefix":
        """The same, through which no gradient flows into what read it (knowledge insulation, arXiv 2505.23705)."""

    @abstractmethod
    def rows(self, rows: Int64[Tensor, " r"]) -> "Prefix":
        """Of some samples alone, to go on from in a way that is not that of the others; made without room."""

    @abstractmethod
    def repeated(self, times: int) -> "Prefix":
        """The whole batch ``times`` times, one after the other: to go on from it in several ways at once."""


@dataclass(frozen=True, kw_only=True)
class CachedPrefix(Prefix):
    """What has been read, as keys and values."""

    cache: Cache
    valid: Bool[Tensor, "b l"]
    next: Place = 0
    """Where the next segment begins."""
    aside: Aside | None = None
    """What its tokens and those behind them look at beside the sequence."""

    def extend(self, trunk: Transformer, segment: Segment) -> tuple[Float[Tensor, "b q e"], "CachedPrefix"]:
        """See `Prefix.extend`."""
        cache = self.cache.extended(segment.marks())
        hidden, cache = trunk(
            segment.x,
            # A row for each new token only: the old ones have been read and do not look again.
            trunk.attend(cache, segment.x),
            cache,
            segment.positions(self.next) if trunk.config.rope is not None else None,
            self.aside,
        )
        valid = cache.marks.valid[:, : cache.start + segment.x.shape[1]]
        return hidden, CachedPrefix(cache=cache, valid=valid, next=segment.next(self.next), aside=self.aside)

    def ahead(self, trunk: Transformer, like: Float[Tensor, "b e"], length: int, block: int) -> Line:
        """See `Prefix.ahead`."""
        if not isinstance(self.cache, StaticCache) or trunk.between is not None:
            return super().ahead(trunk, like, length, block)
        position = torch.arange(length, device=like.device) + self.next
        return static_line(trunk, self.cache, position[:, None].expand(-1, 3), like, block)

    def detached(self) -> "CachedPrefix":
        """See `Prefix.detached`."""
        return replace(self, cache=self.cache.detached(), aside=self.aside and self.aside.detached())

    def rows(self, rows: Int64[Tensor, " r"]) -> "CachedPrefix":
        """See `Prefix.rows`."""
        assert isinstance(self.cache, GrowingCache), "a static cache holds one line of extensions, of all samples"
        aside = self.aside and self.aside.rows(rows)
        return replace(self, cache=self.cache.rows(rows), valid=self.valid[rows], aside=aside)

    def repeated(self, times: int) -> "CachedPrefix":
        """See `Prefix.repeated`."""
        aside = self.aside and self.aside.repeated(times)
        return replace(self, cache=self.cache.repeated(times), valid=self.valid.repeat(times, 1), aside=aside)


class _Extended(Line):
    """By making longer and longer prefixes."""

    def __init__(self, prefix: Prefix, trunk: Transformer, block: int) -> None:
        self._prefix, self._trunk, self._block = prefix, trunk, block

    def read(self, x: Float[Tensor, "b e"]) -> Float[Tensor, "b e"]:
        """See `Line.read`."""
        hidden, self._prefix = self._prefix.extend(self._trunk, Segment.of(x[:, None], self._block))
        self._block += 1
        return hidden[:, 0]


class Reading(Prefix):
    """Named segments as one sequence, read no sooner than needed: with what comes behind them, if that comes first.

    They never see what comes behind them, so one pass gives the same as two, and costs a tenth less of a training step.
    With ``room`` for as many tokens behind them, keys and values are allocated at once and written in place, which
    gradients do not survive; then they are read first.
    """

    def __init__(self, trunk: Transformer, segments: Mapping[str, Segment], *, room: int = 0) -> None:
        assert not (room and torch.is_grad_enabled()), (
            "a static cache has no gradients: read with room=0, or in no_grad"
        )
        self._trunk, self._room, self._aside = trunk, room, laid_aside(segments.values())
        inside = {name: part for name, part in segments.items() if not part.aside}
        self._lengths = {name: part.x.shape[1] for name, part in inside.items()}
        self._whole = joined(list(inside.values()))
        self.valid = self._whole.valid
        self._found: tuple[Float[Tensor, "b l e"], CachedPrefix] | None = None

    @property
    def cached(self) -> CachedPrefix:
        """Itself, read now at the latest."""
        return self._read()[1]

    @property
    def hidden(self) -> dict[str, Float[Tensor, "b q e"]]:
        """What became of the tokens of each segment, by name."""
        split = self._read()[0].split(list(self._lengths.values()), dim=1)
        return dict(zip(self._lengths, split, strict=True))

    def extend(self, trunk: Transformer, segment: Segment) -> tuple[Float[Tensor, "b q e"], Prefix]:
        """See `Prefix.extend`."""
        if self._found or self._room or trunk is not self._trunk:
            return self.cached.extend(trunk, segment)
        length = self._whole.x.shape[1]
        hidden, longer = self._nothing(0).extend(trunk, joined([self._whole, segment]))
        assert isinstance(longer.cache, GrowingCache)
        own = CachedPrefix(
            cache=longer.cache.first(length), valid=self.valid, next=self._whole.next(0), aside=self._aside
        )
        self._found = hidden[:, :length], own
        return hidden[:, length:], longer

    def ahead(self, trunk: Transformer, like: Float[Tensor, "b e"], length: int, block: int) -> Line:
        """See `Prefix.ahead`."""
        return (
            self.cached.ahead(trunk, like, length, block) if self._room else super().ahead(trunk, like, length, block)
        )

    def detached(self) -> Prefix:
        """See `Prefix.detached`."""
        return self.cached.detached()

    def repeated(self, times: int) -> Prefix:
        """See `Prefix.repeated`."""
        return self.cached.repeated(times)

    def rows(self, rows: Int64[Tensor, " r"]) -> Prefix:
        """See `Prefix.rows`."""
        return self.cached.rows(rows)

    def _read(self) -> tuple[Float[Tensor, "b l e"], CachedPrefix]:
        if self._found is None:
            self._found = self._nothing(self._room).extend(self._trunk, self._whole)
        return self._found

    def _nothing(self, room: int) -> CachedPrefix:
        cache = StaticCache(self._whole.x.shape[1] + room) if room else GrowingCache()
        return CachedPrefix(cache=cache, valid=self.valid[:, :0], aside=self._aside)
