"""Auxiliaries: what is learned beside actions, and said beside them."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from vla.models.readers.reader import Activations
from vla.models.trunk.inputs import Metrics
from vla.models.trunk.sequence import Segment
from vla.models.trunk.vocabulary import TokenTable

AUXILIARY_BLOCK = 1
"""Behind the inputs, before the actions: an auxiliary sees no action, actions see what it found."""


class Auxiliary(nn.Module, ABC):
    """Learns one signal from the activations of a model."""

    signal: str
    weight: float
    """Of its loss."""
    ids: int = 0
    """Ids that it needs in the vocabulary, in a range of its own name."""
    says: int = 0
    """Tokens in which it says what it believes to those that are read later."""

    def segment(self, b: int, table: TokenTable) -> Segment | None:
        """Tokens that it adds to the sequence; their hidden states come back in the activations, under its name."""
        return None

    def said(self, activations: Activations) -> Segment:
        """As many tokens as it `says`, for actions and what is written.

        What a pass through the trunk has found is at its end, where no token of the same pass can go on from it.
        """
        raise NotImplementedError

    @abstractmethod
    def predict(self, activations: Activations, table: TokenTable) -> Float[Tensor, "b g"]:
        """What the model believes of the signal, in the units of the dataset."""

    @abstractmethod
    def loss(
        self, activations: Activations, target: Float[Tensor, "b g"], table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """The loss, and what to log of it; entries of ``target`` that are NaN teach nothing."""
