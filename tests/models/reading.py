"""A prefix behind which all is read as given hidden states: what a head makes of them, apart from the trunk."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vla.models.trunk.attention import Transformer
from vla.models.trunk.cache import GrowingCache
from vla.models.trunk.sequence import Prefix, Segment


@dataclass(frozen=True, kw_only=True)
class _Given(Prefix):
    hidden: Tensor

    def extend(self, trunk: Transformer, segment: Segment) -> tuple[Tensor, Prefix]:
        return self.hidden, self


def read_as(hidden: Tensor) -> Prefix:
    """Whatever is read behind it becomes ``hidden``."""
    return _Given(cache=GrowingCache(), valid=torch.zeros(len(hidden), 0, dtype=torch.bool), hidden=hidden)
