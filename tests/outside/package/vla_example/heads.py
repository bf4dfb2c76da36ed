"""A head: one query for each step, read by a linear layer, taught by the mean absolute error."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import repeat
from torch import Tensor, nn

from vla.models.heads.config import HeadConfig
from vla.models.heads.head import ACTION_BLOCK, Head
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Segment


@dataclass(frozen=True, kw_only=True)
class L1Config(HeadConfig):
    """Regression."""

    kind: str = "example-l1"

    def build(self, interface: Interface, trunk: TransformerConfig, fitted: Mapping[str, Any]) -> Head:
        """Nothing is fitted."""
        return L1(interface, trunk.width)


class L1(Head):
    """Writes numbers, no tokens."""

    def __init__(self, interface: Interface, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(0.02 * torch.randn(interface.horizon, width))
        self.out = nn.Linear(width, interface.action)

    def loss(self, trunk: Any, prefix: Any, inputs: Any, targets: Any, table: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Over what may be learned."""
        error = (self.sample(trunk, prefix, inputs, table) - targets.actions).abs() * targets.valid
        loss = error.sum() / targets.valid.sum().clamp(min=1)
        return loss, {"action_loss": loss.detach()}

    def sample(self, trunk: Any, prefix: Any, inputs: Any, table: Any) -> Tensor:
        """One pass."""
        queries = repeat(self.queries, "h e -> b h e", b=len(prefix.valid))
        hidden, _ = prefix.extend(trunk, Segment.of(queries, ACTION_BLOCK))
        return self.out(hidden)
