"""The instruction said aloud: convolutions from 100 frames a second to 6.25 tokens, then a small transformer.

As Whisper reads speech (arXiv 2212.04356), with four strided convolutions for its two: what a token stands for is about
a syllable, so a command of two seconds is a dozen tokens, as many as it has when it is written. They are numbers, not
ids: no transcript is made, and none is needed to learn from.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from vla.core.errors import ContractError
from vla.core.types import Observation
from vla.models.readers.config import SoundConfig
from vla.models.readers.reader import Activations, Reader
from vla.models.trunk.attention import Transformer, attention_mask
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import SPAN, Inputs, Sound
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Segment
from vla.models.trunk.vocabulary import TokenTable
from vla.sound.mel import BANDS, FRAMES_S, MOST_FRAMES, log_mel

_STRIDES = (2, 2, 2, 2)
_FRAMES = math.prod(_STRIDES)
"""Of a token: 0.16 s."""
MOST_TOKENS = -(-MOST_FRAMES // SPAN) * SPAN // _FRAMES
"""Of the longest sound, padded as batches are."""


def heard(observations: Sequence[Observation]) -> Sound | None:
    """What is said in live observations; None where that is nothing.

    As long as can be: the last bits of an answer rest on the number of tokens, and may not on who speaks beside.
    """
    said = [None if seen.speech is None else log_mel(seen.speech) for seen in observations]
    return Sound.of(said, least=MOST_FRAMES)


class SoundReader(Reader):
    """Sounds see each other in both directions; where nobody speaks there is no token, and nothing moves for that."""

    def __init__(self, config: SoundConfig, interface: Interface, width: int) -> None:
        super().__init__()
        sizes = [BANDS, *(min(width, config.channels * 2**i) for i in range(len(_STRIDES) - 1)), width]
        self.convs = nn.ModuleList(
            nn.Conv1d(sizes[i], sizes[i + 1], 3, stride=stride, padding=1) for i, stride in enumerate(_STRIDES)
        )
        self.position = nn.Parameter(torch.empty(MOST_TOKENS, width))
        self.transformer = Transformer(TransformerConfig(width=width, layers=config.layers, heads=config.heads))
        initialise(self)

    def forward(
        self, inputs: Inputs, context: Mapping[str, Segment], table: TokenTable, activations: Activations
    ) -> Segment:
        """As many tokens as the longest sound of the batch has, of 0.16 s each; more than 8 s is a `ContractError`."""
        sound = inputs.sound
        if sound is None:
            x = self.position.new_zeros(len(inputs), 0, self.position.shape[1])
            return Segment(x=x, valid=inputs.text_valid[:, :0], block=0, span=MOST_TOKENS)
        if sound.mel.shape[1] > _FRAMES * MOST_TOKENS:
            seconds, most = sound.mel.shape[1] / FRAMES_S, MOST_FRAMES / FRAMES_S
            raise ContractError(f"sound: expected at most {most:g} s, got {seconds:g} s; send the command alone")
        # Behind its end a sound is 0 in each layer, so that what is read of it does not rest upon the padding.
        valid = sound.valid
        x = rearrange(sound.mel * valid[..., None], "b f m -> b m f")
        for conv, stride in zip(self.convs, _STRIDES, strict=True):
            valid = valid[:, ::stride]
            x = F.gelu(conv(x)) * valid[:, None]
        tokens = (rearrange(x, "b e l -> b l e") + self.position[: x.shape[2]]) * valid[..., None]
        # All in one block: the mask leaves out the padding and nothing else.
        block = torch.zeros_like(valid, dtype=torch.long)
        read, _ = self.transformer(tokens, attention_mask(block, valid))
        return Segment(x=read, valid=valid, block=0, span=MOST_TOKENS)
