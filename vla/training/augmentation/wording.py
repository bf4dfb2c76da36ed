"""What a training instruction stands among: words that say nothing, as people put them around what they mean.

No sentence is written here: to a policy a word that its data never said is one unknown token, or pieces that its data
never needed. So it is shown such tokens before, behind and in the middle of a command, and the commonest of its own
words out of place, and learns that what counts is the command, wherever it begins. Every place of the longest
instruction is learned on the way.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from vla.models.text.tokenizer import InstructionTokenizer
from vla.models.trunk.inputs import Inputs
from vla.training.augmentation.config import AugmentationConfig

_COMMON = 0.5
"""A word of more than this share of all instructions does not tell one from the other."""
_MIDDLE, _LOST, _OWN = 0.25, 0.1, 0.25
"""Chances: of an unknown word within a command, of a common word that is not understood, of a filler that is one."""
_LONGER = 0.2
"""Chance that a batch may be longer than any instruction of the data; each token costs a step one hundredth more."""


class Wording:
    """Draws from torch's generator, so a seeded step is repeatable."""

    def __init__(
        self, config: AugmentationConfig, tokenizer: InstructionTokenizer, instructions: Sequence[str]
    ) -> None:
        """``instructions`` are the distinct ones of the data."""
        self._share, self._rotate, self._lost = config.words, config.rotate, config.lost
        self._before = torch.tensor(sorted({tokenizer.ids(word)[0] for word in config.rotate_before}), dtype=torch.long)
        self._kept = torch.tensor(sorted({i for word in config.colours for i in tokenizer.ids(word)}), dtype=torch.long)
        self._fillers = torch.tensor(tokenizer.fillers(instructions))
        said = [tokenizer.ids(text) for text in instructions]
        counts = Counter(word for ids in said for word in set(ids))
        self._longest = max([1, *map(len, said)])
        often = {word for word, n in counts.items() if n > _COMMON * len(instructions)}
        self._common = torch.tensor(sorted(often.difference(self._kept.tolist())))

    def __call__(self, inputs: Inputs, acting: Int64[Tensor, " r"] | None = None) -> Inputs:
        """The batch as it might as well have been said; where it is not ``acting``, words keep their order.

        Whether red is left of blue is another question than whether blue is left of red. Most batches are as short as
        the data's, some have any length: all places are learned, and few steps pay.
        """
        if self._rotate:
            text = _rotated(inputs.text, inputs.text_valid, self._rotate, self._before.to(inputs.text.device))
            if acting is not None:
                rotated, text = text, inputs.text.clone()
                text[acting] = rotated[acting]
            inputs = replace(inputs, text=text)
        if not self._share or not len(self._fillers):
            return replace(inputs, **{n: getattr(inputs, n)[:, : self._longest] for n in ("text", "text_valid")})
        most = inputs.text.shape[1]
        longer, share = torch.rand(2).tolist()
        reach = self._longest + (longer < _LONGER) * int(share * (most - self._longest + 1))
        may_lose = torch.ones(len(inputs), dtype=torch.bool, device=inputs.text.device)
        if acting is not None:  # a question has no word to spare
            may_lose = torch.zeros_like(may_lose).scatter(0, acting, True)
        text, valid = self._said(inputs.text[:, :reach], inputs.text_valid[:, :reach], may_lose)
        return replace(inputs, text=text, text_valid=valid)

    def _said(
        self, text: Int64[Tensor, "b l"], valid: Bool[Tensor, "b l"], may_lose: Bool[Tensor, " b"]
    ) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        b, length = text.shape
        device = text.device
        common, place = self._common.to(device), torch.arange(length, device=device)
        words = valid.sum(dim=1)  # (b,)
        draw = torch.rand(5, b, device=device)
        chosen = draw[0] < self._share
        more = chosen * (draw[1] * (length - words + 1)).long()
        middle = (more > 0) & (draw[2] < _MIDDLE)
        before = (draw[3] * (more - middle.long() + 1)).long()
        cut = (draw[4] * words).long()
        fill, lost = torch.rand(2, b, length, device=device)
        # Of one there is no choice, and nothing is drawn: what the seed decides stays as it is.
        several = len(self._fillers) > 1
        choice = torch.randint(len(self._fillers), text.shape, device=device) if several else torch.zeros_like(text)
        filler = foreign = self._fillers.to(device)[choice]
        lost_here = may_lose[:, None] & (lost < self._lost) & ~torch.isin(text, self._kept.to(device))
        if len(common):
            own = common[torch.randint(len(common), (b, length), device=device)]
            filler = torch.where(fill < _OWN, own, filler)
            lost_here |= torch.isin(text, common) & (lost < _LOST)
        text = torch.where(chosen[:, None] & lost_here, foreign, text)
        goes = place + before[:, None] + (middle[:, None] & (place >= cut[:, None]))  # (b, l)
        spare = torch.cat([filler, filler[:, :1]], dim=1)  # a column more, for padding to go to
        said = spare.scatter(1, torch.where(valid, goes, length), text)[:, :length]
        heard = place < (words + more)[:, None]
        return torch.where(heard, said, 0), heard


def _rotated(
    text: Int64[Tensor, "b l"], valid: Bool[Tensor, "b l"], share: float, before: Int64[Tensor, " w"]
) -> Int64[Tensor, "b l"]:
    """A ``share`` of the instructions from one of their words on, around to the word before it.

    That is any word, or one of those ``before`` which it may be; where none of them stands, nothing changes.
    """
    words = valid.sum(dim=1, keepdim=True).clamp(min=1)  # (b, 1)
    chosen, cut = torch.rand(2, len(text), 1, device=text.device)
    place = torch.arange(text.shape[1], device=text.device)
    start = (cut * words).long()
    if len(before):
        may = torch.isin(text, before) & valid  # (b, l)
        rank = (cut * may.sum(dim=1, keepdim=True)).long()  # which of them
        start = (may & (may.cumsum(dim=1) == rank + 1)).long().argmax(dim=1, keepdim=True)  # 0 where there is none
    source = (place + (chosen < share) * start) % words  # (b, l)
    return torch.where(valid, text.gather(1, source), text)
