"""Heads: what turns the hidden states at the action positions into a chunk, and how that is taught."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from vla.models.trunk.attention import Transformer
from vla.models.trunk.inputs import Metrics, Targets
from vla.models.trunk.sequence import Prefix, Segment
from vla.models.trunk.vocabulary import TokenTable

ACTION_BLOCK = 2
"""The first block of the actions: everything else comes before it."""


class Head(nn.Module, ABC):
    """Writes scaled chunks (b, h, d) at the end of the sequence."""

    ids: int = 0
    """Ids that it needs in the range ``action`` of the vocabulary; 0 where it does not write in tokens."""

    @abstractmethod
    def teach(self, targets: Targets, table: TokenTable) -> Segment:
        """The tokens at the action positions while training."""

    @abstractmethod
    def loss(
        self, hidden: Float[Tensor, "b q e"], targets: Targets, table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """The loss at the positions of `teach`, and what to log of it; ``action_loss`` among them."""

    @abstractmethod
    def sample(self, trunk: Transformer, prefix: Prefix, table: TokenTable) -> Float[Tensor, "b h d"]:
        """A chunk for each sample of the prefix."""
