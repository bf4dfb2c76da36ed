"""All actions in one pass: each position is a query, and is read as distributions over bins (arXiv 2502.19645)."""

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from vla.models.codecs.bins import Bins
from vla.models.heads.config import BinsHeadConfig
from vla.models.heads.head import Head
from vla.models.heads.steps import step_mean, step_segment, undecided
from vla.models.trunk.attention import Transformer
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs, Metrics, Targets
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Prefix, Segment
from vla.models.trunk.soft_bins import SoftBins
from vla.models.trunk.vocabulary import TokenTable


class BinsHead(Head):
    """Layout ``step``: one token writes all joints of a step; ``joint``: one token for each joint of each step."""

    def __init__(self, config: BinsHeadConfig, interface: Interface, width: int, fitted: Mapping[str, Any]) -> None:
        super().__init__()
        # The limits come from the data by way of the codec; how finely the head reads between them is its own.
        codec = Bins.from_json(fitted).cells
        self.cells = SoftBins(codec.low, codec.high, bins=config.bins, sigma=config.label_sigma)
        self.layout, self._dims = config.layout, interface.action
        self.ids = interface.action * config.bins
        per_step = interface.action if config.layout == "joint" else 1
        self.step_position = nn.Parameter(torch.zeros(interface.horizon, 1, width))
        self.joint_position = nn.Parameter(torch.zeros(1, per_step, width))
        initialise(self)

    def loss(
        self, trunk: Transformer, prefix: Prefix, inputs: Inputs, targets: Targets, table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """Cross entropy against soft targets, over what may be learned."""
        logits = self._read(trunk, prefix, inputs, table)
        loss = table.cross_entropy(logits, self.cells.targets(targets.actions))  # (b, h, d)
        return step_mean(loss, inputs, targets)

    def sample(self, trunk: Transformer, prefix: Prefix, inputs: Inputs, table: TokenTable) -> Float[Tensor, "b h d"]:
        """One pass; each distribution becomes the mean near its mode."""
        return self.cells.decode(self._read(trunk, prefix, inputs, table))

    def _read(self, trunk: Transformer, prefix: Prefix, inputs: Inputs, table: TokenTable) -> Float[Tensor, "b h d v"]:
        hidden, _ = prefix.extend(trunk, self._queries(inputs, table))
        return self._logits(hidden, table)

    def _queries(self, inputs: Inputs, table: TokenTable) -> Segment:
        """They say which step and joint they are, and nothing of the labels."""
        # A step and a joint say together which query it is: h + j vectors instead of h j.
        position = rearrange(self.step_position + self.joint_position, "h j e -> (h j) e")
        queries = repeat(table.special("query") + position, "q e -> b q e", b=len(inputs))
        return step_segment(queries, undecided(inputs, len(self.step_position)))

    def _logits(self, hidden: Float[Tensor, "b q e"], table: TokenTable) -> Float[Tensor, "b h d v"]:
        """At each position only over the bins of the joints that are due there."""
        if self.layout == "step":
            return rearrange(table.logits("action", hidden), "b h (d v) -> b h d v", d=self._dims)
        rows = rearrange(table.rows("action"), "(d v) e -> d e v", d=self._dims)
        tokens = rearrange(hidden, "b (h d) e -> d (b h) e", d=self._dims)
        # One product for each joint; broadcasting over (b, h) would copy the table for every token.
        return rearrange(tokens @ rows, "d (b h) v -> b h d v", b=len(hidden))
