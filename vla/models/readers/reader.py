"""Readers: each turns a part of the inputs into tokens of the sequence."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from vla.models.trunk.inputs import Inputs
from vla.models.trunk.sequence import Segment
from vla.models.trunk.vocabulary import TokenTable

Activations = dict[str, Tensor]
"""What the parts of a model leave for auxiliaries and people: ``images.scores``, the hidden states of a segment."""


class Reader(nn.Module, ABC):
    """One part of the inputs to tokens."""

    ranges: Mapping[str, int] = {}
    """Ids that it needs in the vocabulary, by the names of their ranges; none where it reads numbers, or text."""

    def meanings(self) -> Mapping[str, str]:
        """Of parts and ranges whose content is not learned here but was made elsewhere: what they stand for."""
        return {}

    @abstractmethod
    def forward(
        self, inputs: Inputs, context: Mapping[str, Segment], table: TokenTable, activations: Activations
    ) -> Segment:
        """Tokens of the inputs, in the light of ``context``: the segments of the readers before it, by name."""

    def begin(self) -> None:
        """Take what was made elsewhere, weights or image codecs, for a run that begins; a state brings its own."""
