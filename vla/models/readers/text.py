"""The instruction: embedded, and read by a small transformer, so that other readers can ask what it says."""

from collections.abc import Mapping

import torch
from torch import nn

from vla.models.readers.config import TextConfig
from vla.models.readers.reader import Activations, Reader
from vla.models.trunk.attention import Transformer, attention_mask
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Segment
from vla.models.trunk.vocabulary import TokenTable


class TextReader(Reader):
    """Words see each other in both directions."""

    def __init__(self, config: TextConfig, interface: Interface, width: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.empty(interface.text, width))
        self.transformer = Transformer(TransformerConfig(width=width, layers=config.layers, heads=config.heads))
        initialise(self)

    def forward(
        self, inputs: Inputs, context: Mapping[str, Segment], table: TokenTable, activations: Activations
    ) -> Segment:
        """As many tokens as the longest instruction of the batch may have; shorter ones are padded."""
        words = table.embed("text", inputs.text) + self.position[: inputs.text.shape[1]]  # (b, l, e)
        # All in one block: the mask leaves out the padding and nothing else.
        block = torch.zeros_like(inputs.text)
        read, _ = self.transformer(words, attention_mask(block, inputs.text_valid))
        return Segment(x=read, valid=inputs.text_valid, block=0)
