"""Training instructions said aloud: the text of some samples is taken away, and a voice of a bank says it instead.

What a model hears is then all that tells it what to do, as it will be when somebody speaks to it. Spectrograms are made
when a sound is first drawn, and kept: of a thousand sounds of two seconds they are 32 MB.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vla.models.trunk.inputs import Inputs, Sound
from vla.sound.bank import SpeechBank, Spoken
from vla.sound.mel import log_mel


class Speaking:
    """Draws from torch's generator, so a seeded step is repeatable."""

    def __init__(self, bank: SpeechBank, share: float, said: Mapping[str, Sequence[int]]) -> None:
        """``said`` are the distinct instructions of the data, and how they stand there in tokens.

        One that nobody in the bank says is a `DatasetError`.
        """
        bank.require(said)
        self._bank, self._share = bank, share
        # Whole instructions are asked, since a tokenizer may spell a word in pieces.
        self._text = {tuple(ids): text for text, ids in said.items()}
        self._kept: dict[str, Float[Tensor, "_ m"]] = {}

    def __call__(self, inputs: Inputs, said: Int64[Tensor, "b l"], acting: Int64[Tensor, " r"] | None = None) -> Inputs:
        """The batch with some of its instructions spoken; ``said`` is how they stand in the data, in tokens.

        Where it is not ``acting``, by default it is everywhere, something is asked, and stays written.
        """
        chosen = torch.rand(len(inputs)) < self._share  # drawn on the CPU, where the sounds are
        if acting is not None:
            chosen &= torch.zeros_like(chosen).scatter(0, acting.cpu(), True)
        voices = torch.rand(len(inputs)).tolist()
        rows = said.cpu().tolist() if chosen.any() else []
        heard: list[Tensor | None] = [None] * len(inputs)
        for i in chosen.nonzero().flatten().tolist():
            sounds = self._bank.by_text.get(self._text[tuple(rows[i])], ())  # none where the data gives no instruction
            heard[i] = self._spectrogram(sounds[int(voices[i] * len(sounds))]) if sounds else None
        sound = Sound.of(heard)
        if sound is None:
            return inputs
        device = inputs.text.device
        written = torch.tensor([spectrogram is None for spectrogram in heard], device=device)[:, None]
        return replace(
            inputs, text=inputs.text * written, text_valid=inputs.text_valid & written, sound=sound.to(device)
        )

    def _spectrogram(self, sound: Spoken) -> Float[Tensor, "_ m"]:
        if sound.name not in self._kept:
            self._kept[sound.name] = log_mel(self._bank.samples(sound)).half()
        return self._kept[sound.name].float()
