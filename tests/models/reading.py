"""Prefixes that stand in for the one of a trunk: to see what a head makes of them, and that a cache changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vla.models.trunk.attention import Transformer
from vla.models.trunk.cache import GrowingCache
from vla.models.trunk.sequence import CachedPrefix, Prefix, Segment, joined


@dataclass(frozen=True, kw_only=True)
class _Given(CachedPrefix):
    hidden: Tensor

    def extend(self, trunk: Transformer, segment: Segment) -> tuple[Tensor, CachedPrefix]:
        return self.hidden, self


def read_as(hidden: Tensor) -> Prefix:
    """Whatever is read behind it becomes ``hidden``."""
    return _Given(cache=GrowingCache(), valid=torch.zeros(len(hidden), 0, dtype=torch.bool), hidden=hidden)


@dataclass(frozen=True, kw_only=True)
class _Uncached(CachedPrefix):
    owner: Transformer
    segments: tuple[Segment, ...]

    def extend(self, trunk: Transformer, segment: Segment) -> tuple[Tensor, CachedPrefix]:
        if trunk is not self.owner:  # weights of its own: then keys and values of the others are all there is
            return CachedPrefix.extend(self, trunk, segment)
        return uncached(self.owner, (*self.segments, segment))


def uncached(trunk: Transformer, segments: Sequence[Segment]) -> tuple[Tensor, CachedPrefix]:
    """All ``segments`` read in one pass, and so again with every extension: what the last became, and the prefix."""
    nothing = CachedPrefix(cache=GrowingCache(), valid=segments[0].valid[:, :0])
    whole = joined(segments)
    hidden, prefix = nothing.extend(trunk, whole)
    values = {name: getattr(prefix, name) for name in ("cache", "valid", "next")}
    # The last segment's share of (b, l, e).
    return hidden[:, -segments[-1].x.shape[1] :], _Uncached(**values, owner=trunk, segments=tuple(segments))
