"""Proprioception: one token for each observation, left out of some samples while training."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.models.readers.config import StateConfig
from vla.models.readers.reader import Activations, Reader
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Segment
from vla.models.trunk.vocabulary import TokenTable


class StateReader(Reader):
    """The state, and which robot it is the state of."""

    def __init__(self, config: StateConfig, interface: Interface, width: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.project = nn.Sequential(nn.Linear(interface.state, width), nn.GELU(), nn.Linear(width, width))
        self.position = nn.Parameter(torch.empty(width))
        self.time = nn.Parameter(torch.empty(interface.history, width))
        self.embodiment = nn.Parameter(torch.empty(interface.embodiments, width))
        initialise(self)

    def forward(
        self, inputs: Inputs, context: Mapping[str, Segment], table: TokenTable, activations: Activations
    ) -> Segment:
        """T tokens."""
        x = self.project(inputs.state)  # (b, t, e)
        if self.training and self.dropout:
            x = left_out(x, table, self.dropout)
        x = x + self.position + self.time + self.embodiment[inputs.embodiment][:, None]
        return Segment(x=x, valid=inputs.observed, block=0)


def left_out(x: Float[Tensor, "b l e"], table: TokenTable, share: float) -> Float[Tensor, "b l e"]:
    """``x`` with ``no_state`` in the place of every token, in a ``share`` of the samples that is drawn."""
    drop = torch.rand(len(x), 1, 1, device=x.device) < share
    return torch.where(drop, table.special("no_state").to(x.dtype), x)
