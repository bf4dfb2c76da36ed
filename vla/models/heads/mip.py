"""Two passes of regression, the second from a noised chunk: the minimal iterative policy (MIP, arXiv 2512.01809).

What flow matching adds to regression on demonstrations is not that it can draw from several modes but that it computes
in steps, each of them supervised from inputs with noise in them. Two such steps suffice. With t between 0 (nothing of
the chunk is known) and 1, and x_t = t a + (1 - t) ε:

    training    f(0, t=0) → a        f(x_t*, t=t*) → a
    decoding    â = f(t* f(0, 0), t*), without noise

The authors' code also knows another form (no factor t* on what is fed back, the passes weighted); this is the paper's.
"""

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from vla.models.heads.config import MipHeadConfig
from vla.models.heads.head import Head
from vla.models.heads.steps import readout, step_mean, step_positions, step_segment, undecided
from vla.models.trunk.attention import Transformer
from vla.models.trunk.inputs import Inputs, Metrics, Targets
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Prefix
from vla.models.trunk.vocabulary import TokenTable


class MipHead(Head):
    """A query for each step that carries what is known of the step so far."""

    def __init__(self, config: MipHeadConfig, interface: Interface, width: int) -> None:
        super().__init__()
        self.known = config.known
        self.step_position = step_positions(interface.horizon, width)
        self.embed = nn.Linear(interface.action, width)
        # Which of the two passes it is: t has no other values.
        self.refine = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.refine, std=0.02)
        self.readout = readout(width, interface.action)

    def loss(
        self, trunk: Transformer, prefix: Prefix, inputs: Inputs, targets: Targets, table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """Mean squared error of both passes; ``action_loss`` is that of the second."""
        # What may not be learned must not be read off a noised chunk either.
        shown = torch.where(targets.valid, targets.actions, 0.0)
        noised = self.known * shown + (1 - self.known) * torch.randn_like(shown)
        first, second = self._first(trunk, prefix, inputs, table), self._second(trunk, prefix, inputs, noised, table)
        rough, _ = step_mean((first.float() - targets.actions) ** 2, inputs, targets)
        fine, metrics = step_mean((second.float() - targets.actions) ** 2, inputs, targets)
        return rough + fine, metrics | {"first_pass_loss": rough.detach()}

    def sample(self, trunk: Transformer, prefix: Prefix, inputs: Inputs, table: TokenTable) -> Float[Tensor, "b h d"]:
        """Two passes, the second from what the first gave."""
        first = self._first(trunk, prefix, inputs, table).float()
        return self._second(trunk, prefix, inputs, self.known * first, table)

    def _first(self, trunk: Transformer, prefix: Prefix, inputs: Inputs, table: TokenTable) -> Float[Tensor, "b h d"]:
        queries = repeat(table.special("query") + self.step_position, "h e -> b h e", b=len(inputs))
        return self._read(trunk, prefix, inputs, queries)

    def _second(
        self,
        trunk: Transformer,
        prefix: Prefix,
        inputs: Inputs,
        known: Float[Tensor, "b h d"],
        table: TokenTable,
    ) -> Float[Tensor, "b h d"]:
        queries = table.special("query") + self.step_position + self.refine + self.embed(known)
        return self._read(trunk, prefix, inputs, queries)

    def _read(
        self, trunk: Transformer, prefix: Prefix, inputs: Inputs, queries: Float[Tensor, "b h e"]
    ) -> Float[Tensor, "b h d"]:
        hidden, _ = prefix.extend(trunk, step_segment(queries, undecided(inputs, len(self.step_position))))
        written: Tensor = self.readout(hidden)
        return written
