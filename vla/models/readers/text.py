"""The instruction: embedded, and read by a small transformer, so that other readers can ask what it says.

It stays the same for an episode, so on a CPU what was made of the last one is kept. On a GPU to find out that it is the
same would make the host wait, and a recorded graph could not.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

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
        self.transformer: Transformer | None = None
        if config.layers:
            self.position = nn.Parameter(torch.empty(interface.text, width))
            self.transformer = Transformer(TransformerConfig(width=width, layers=config.layers, heads=config.heads))
            initialise(self)
        self._last: tuple[object, Tensor] | None = None
        """What the last reading rests upon, and what it gave."""

    def forward(
        self, inputs: Inputs, context: Mapping[str, Segment], table: TokenTable, activations: Activations
    ) -> Segment:
        """As many tokens as the longest instruction of the batch may have; shorter ones are padded."""
        if self.transformer is None:
            return Segment(x=table.embed("text", inputs.text), valid=inputs.text_valid, block=0)
        last = None if torch.is_grad_enabled() or inputs.text.device.type != "cpu" else self._depends(inputs, table)
        if last is not None and self._last is not None and self._last[0] == last:
            return Segment(x=self._last[1], valid=inputs.text_valid, block=0)
        words = table.embed("text", inputs.text) + self.position[: inputs.text.shape[1]]  # (b, l, e)
        # All in one block: the mask leaves out the padding and nothing else.
        block = torch.zeros_like(inputs.text)
        read, _ = self.transformer(words, attention_mask(block, inputs.text_valid))
        self._last = None if last is None else (last, read)
        return Segment(x=read, valid=inputs.text_valid, block=0)

    def _depends(self, inputs: Inputs, table: TokenTable) -> object:
        """Equal for the same words, as long as nobody has written into a weight or put another one in its place."""
        weights = tuple((weight.data_ptr(), weight._version) for weight in (table.weight, *self.parameters()))
        said = tuple((tuple(part.shape), part.numpy().tobytes()) for part in (inputs.text, inputs.text_valid))
        return said, weights, torch.is_autocast_enabled("cpu")
