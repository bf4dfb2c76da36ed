"""Proprioception as tokens: each dimension in bins that have ids of their own, read through the one table.

As Gato reads it (arXiv 2205.06175), and as VLAs do that write the state among the words. Where a dimension has one
range of ids, the id says which dimension it is, and no position is needed. What a projection makes of two states is
alike where they are near; bins are free to mean different things on either side of a border, and cost a token each.
"""

from collections.abc import Mapping

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vla.models.readers.config import StateBinsConfig
from vla.models.readers.reader import Activations, Reader
from vla.models.readers.state import left_out
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Segment
from vla.models.trunk.soft_bins import SoftBins
from vla.models.trunk.vocabulary import TokenTable

_RANGE = "state"


class StateBinsReader(Reader):
    """A token for each dimension of each observation, and which robot it is the state of."""

    def __init__(self, config: StateBinsConfig, interface: Interface, width: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        reach = torch.full((interface.state,), config.reach)
        self.cells = SoftBins(-reach, reach, bins=config.bins)
        self.ranges = {_RANGE: interface.state * config.bins}
        self.time = nn.Parameter(torch.empty(interface.history, width))
        self.embodiment = nn.Parameter(torch.empty(interface.embodiments, width))
        initialise(self)

    def forward(
        self, inputs: Inputs, context: Mapping[str, Segment], table: TokenTable, activations: Activations
    ) -> Segment:
        """Tokens (t s); of dimensions that a robot lacks, none is valid."""
        x = table.embed(_RANGE, self.ids(inputs.state))  # (b, t, s, e)
        x = x + self.time[:, None] + self.embodiment[inputs.embodiment][:, None, None]
        valid = inputs.observed[:, :, None] & inputs.state_valid[:, None]  # (b, t, s)
        x = rearrange(x, "b t s e -> b (t s) e")
        if self.training and self.dropout:
            x = left_out(x, table, self.dropout)
        return Segment(x=x, valid=rearrange(valid, "b t s -> b (t s)"), block=0)

    def ids(self, state: Float[Tensor, "b t s"]) -> Int64[Tensor, "b t s"]:
        """Of the range: dimension i has those from i times the bins on."""
        starts = torch.arange(state.shape[-1], device=state.device) * self.cells.bins
        return self.cells.ids(state) + starts
