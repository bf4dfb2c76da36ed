"""The one token sequence: parts that know nothing of each other, put one behind the other.

A `Segment` is some tokens with one block number, or one for each token. Concatenation makes the sequence; the
attention rule (`vla.models.trunk.attention`) makes the mask from the block numbers alone. A `Prefix` is a sequence
that has been read, with its keys and values: extending it gives a new one and leaves the old one as it was, so it can
be read from twice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vla.models.trunk.attention import Cache, Transformer, attention_mask


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Some tokens of a sequence."""

    x: Float[Tensor, "b l e"]
    valid: Bool[Tensor, "b l"]
    """False for padding, and for what a robot lacks: seen by nobody."""
    block: int | Int64[Tensor, " l"]
    """Sees its own block and those below; see `vla.models.trunk.attention`."""

    @staticmethod
    def of(x: Float[Tensor, "b l e"], block: int | Int64[Tensor, " l"]) -> "Segment":
        """Tokens that are all valid."""
        return Segment(x=x, valid=torch.ones(x.shape[:2], dtype=torch.bool, device=x.device), block=block)

    def blocks(self) -> Int64[Tensor, "b l"]:
        """The block number of every token."""
        b, length = self.valid.shape
        block = torch.as_tensor(self.block, device=self.valid.device)
        return block.expand(b, length)


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """What has been read: the tokens before the next ones."""

    cache: Cache
    valid: Bool[Tensor, "b l"]
    block: Int64[Tensor, "b l"]

    def repeated(self, times: int) -> "Prefix":
        """The whole batch ``times`` times, one after the other: to go on from it in several ways at once."""
        return self._each(lambda x: x.repeat(times, *[1] * (x.ndim - 1)))

    def detached(self) -> "Prefix":
        """The same, through which no gradient flows."""
        return self._each(Tensor.detach)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Prefix":
        cache = [(change(keys), change(values)) for keys, values in self.cache]
        return replace(self, cache=cache, valid=change(self.valid), block=change(self.block))

    def extend(self, trunk: Transformer, segment: Segment) -> tuple[Float[Tensor, "b q e"], "Prefix"]:
        """Read ``segment`` behind it: its hidden states, and the longer prefix."""
        valid = torch.cat([self.valid, segment.valid], dim=1)
        block = torch.cat([self.block, segment.blocks()], dim=1)
        mask = attention_mask(block, valid, queries=segment.x.shape[1])
        # The mask has a row for each new token only (b, q, l): the old ones have been read and do not look again.
        hidden, cache = trunk(segment.x, mask, self.cache)
        return hidden, Prefix(cache=cache, valid=valid, block=block)


def read(trunk: Transformer, segments: Mapping[str, Segment]) -> tuple[dict[str, Float[Tensor, "b q e"]], Prefix]:
    """Run all segments through ``trunk`` as one sequence: the hidden states of each, and the prefix that they are."""
    parts: Sequence[Segment] = list(segments.values())
    x = torch.cat([part.x for part in parts], dim=1)  # (b, l, e)
    valid = torch.cat([part.valid for part in parts], dim=1)
    block = torch.cat([part.blocks() for part in parts], dim=1)
    hidden, cache = trunk(x, attention_mask(block, valid))
    # Each part gets back what became of its own tokens: (b, q, e) again.
    split = hidden.split([part.x.shape[1] for part in parts], dim=1)
    return dict(zip(segments, split, strict=True)), Prefix(cache=cache, valid=valid, block=block)
