"""Heads: what writes actions behind what has been read, and how that is taught.

A head gets the inputs as a `Prefix`, keys and values of every layer, and extends it as it likes: once with queries,
token after token, several times with other noise, or with weights of its own. Gradients flow through the prefix into
the trunk unless the head detaches it, and the prefix never sees an action. Beside it a head has the inputs themselves,
for what is not in the sequence: which steps are committed, what it is to draw by, the state where it reads that too.
"""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from vla.models.trunk.attention import Transformer
from vla.models.trunk.inputs import Inputs, Metrics, Targets
from vla.models.trunk.sequence import Prefix
from vla.models.trunk.vocabulary import TokenTable

ACTION_BLOCK = 3
"""The first block of the actions: everything else comes before it, committed steps in the block just below."""


class Head(nn.Module, ABC):
    """Writes scaled chunks (b, h, d) at the end of the sequence."""

    ids: int = 0
    """Ids that it needs in the range ``action`` of the vocabulary; 0 where it does not write in tokens."""
    room: int = 0
    """Tokens that `sample` reads behind the inputs, at most: keys and values get their place ahead. 0 where that is not
    known, or where it reads once: then inputs and actions are one pass."""
    reads_hidden: bool = True
    """Whether its loss reads what the trunk makes of tokens. Where it reads keys and values alone, the end of the last
    block is taught by auxiliaries or not at all."""

    @abstractmethod
    def loss(
        self, trunk: Transformer, prefix: Prefix, inputs: Inputs, targets: Targets, table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """The mean loss behind ``prefix``, and what to log of it; ``action_loss`` among them."""

    def blocks(self) -> list[nn.Module]:
        """Its own units of sharding, checkpointing and compiling, in the order in which they run."""
        return []

    @abstractmethod
    def sample(self, trunk: Transformer, prefix: Prefix, inputs: Inputs, table: TokenTable) -> Float[Tensor, "b h d"]:
        """A chunk for each sample of the prefix; where it draws, by ``inputs.seeds`` alone."""
