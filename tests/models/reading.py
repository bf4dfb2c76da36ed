"""Prefixes that stand in for the one of a trunk: to see what a head makes of them, and that a cache changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vla.models.trunk.attention import Transformer
from vla.models.trunk.cache import GrowingCache
from vla.models.trunk.line import Line
from vla.models.trunk.sequence import Prefix, Segment, _Extended, read


@dataclass(frozen=True, kw_only=True)
class _Given(Prefix):
    hidden: Tensor

    def extend(self, trunk: Transformer, segment: Segment) -> tuple[Tensor, Prefix]:
        return self.hidden, self


def read_as(hidden: Tensor) -> Prefix:
    """Whatever is read behind it becomes ``hidden``."""
    return _Given(cache=GrowingCache(), valid=torch.zeros(len(hidden), 0, dtype=torch.bool), hidden=hidden)


@dataclass(frozen=True, kw_only=True)
class _Uncached(Prefix):
    owner: Transformer
    segments: tuple[Segment, ...]

    def extend(self, trunk: Transformer, segment: Segment) -> tuple[Tensor, Prefix]:
        if trunk is not self.owner:  # weights of its own: then keys and values of the others are all there is
            return Prefix.extend(self, trunk, segment)
        return uncached(self.owner, (*self.segments, segment))

    def ahead(self, trunk: Transformer, like: Tensor, length: int, block: int) -> Line:
        return _Extended(self, trunk, block)


def uncached(trunk: Transformer, segments: Sequence[Segment]) -> tuple[Tensor, Prefix]:
    """All ``segments`` read in one pass, and so again with every extension: what the last became, and the prefix."""
    hidden, prefix = read(trunk, {str(i): segment for i, segment in enumerate(segments)})
    values = {name: getattr(prefix, name) for name in ("cache", "valid", "next")}
    return hidden[str(len(segments) - 1)], _Uncached(**values, owner=trunk, segments=tuple(segments))
