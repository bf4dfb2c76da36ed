"""All actions in one pass as numbers: a query for each step, taught by the absolute error (arXiv 2502.19645)."""

from einops import repeat
from jaxtyping import Float
from torch import Tensor

from vla.models.heads.head import Head
from vla.models.heads.steps import readout, step_mean, step_positions, step_segment, undecided
from vla.models.trunk.attention import Transformer
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs, Metrics, Targets
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Prefix
from vla.models.trunk.vocabulary import TokenTable


class L1Head(Head):
    """Right where there is one way to go on: of several it writes the median, step by step and joint by joint."""

    def __init__(self, interface: Interface, width: int) -> None:
        super().__init__()
        self.step_position = step_positions(interface.horizon, width)
        self.readout = readout(width, interface.action)
        initialise(self)

    def loss(
        self, trunk: Transformer, prefix: Prefix, inputs: Inputs, targets: Targets, table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """Mean absolute error, over what may be learned."""
        written = self.sample(trunk, prefix, inputs, table).float()
        return step_mean((written - targets.actions).abs(), inputs, targets)

    def sample(self, trunk: Transformer, prefix: Prefix, inputs: Inputs, table: TokenTable) -> Float[Tensor, "b h d"]:
        """One pass."""
        queries = repeat(table.special("query") + self.step_position, "h e -> b h e", b=len(inputs))
        hidden, _ = prefix.extend(trunk, step_segment(queries, undecided(inputs, len(self.step_position))))
        written: Tensor = self.readout(hidden)
        return written
