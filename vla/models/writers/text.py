"""Answers: the tokens that instructions are read in, one after the other, until the end is written.

The question stands where an instruction would, so whatever reads one reads the other.
"""

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from vla.models.heads.head import ACTION_BLOCK
from vla.models.trunk.attention import Transformer
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs, Metrics, Written
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Prefix, Segment
from vla.models.trunk.vocabulary import TokenTable
from vla.models.writers.config import TextWriterConfig
from vla.models.writers.writer import Writer

_END = "end"
"""A range of one id: nothing that can be read ends a sentence."""


class TextWriter(Writer):
    """Each token is a block of its own, so it sees the inputs and what was written before it."""

    def __init__(self, config: TextWriterConfig, interface: Interface, width: int) -> None:
        super().__init__()
        self.target, self.weight = config.target, config.weight
        self.room = interface.answer + 1  # and the end
        self.ranges = {_END: 1}
        self.position = nn.Parameter(torch.empty(self.room, width))
        initialise(self)

    def loss(
        self, trunk: Transformer, prefix: Prefix, inputs: Inputs, written: Written, table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """Cross entropy of the words and of the end behind them, all places at once."""
        ids, known = written.value, written.known  # (b, l)
        words = known.sum(dim=1, keepdim=True)
        place = torch.arange(self.room, device=ids.device)
        begin = repeat(table.special("begin"), "e -> b 1 e", b=len(ids))
        # Teacher forcing: at each place the token before it.
        x = torch.cat([begin, table.embed("text", ids)], dim=1) + self.position  # (b, l + 1, e)
        hidden, _ = prefix.extend(trunk, Segment.of(x, ACTION_BLOCK + place))
        labels = torch.where(place < words, nn.functional.pad(ids, (0, 1)), len(table.rows("text")))
        learn = place <= words
        logits = self._logits(hidden, table)
        loss = torch.where(learn, table.cross_entropy(logits, labels), 0.0).sum() / learn.sum()
        right = ((logits.argmax(dim=-1) == labels) | ~learn).all(dim=1).float().mean()
        return loss, dict(zip(self.measures, (loss.detach(), right), strict=True))

    def write(self, trunk: Transformer, prefix: Prefix, inputs: Inputs, table: TokenTable) -> Written:
        """Greedy: the likeliest token, fed back, until every sentence has ended or is as long as one may be."""
        b, device = len(prefix.valid), prefix.valid.device
        ids = torch.zeros(b, self.room - 1, dtype=torch.long, device=device)
        known = torch.zeros_like(ids, dtype=torch.bool)
        open_ = torch.ones(b, dtype=torch.bool, device=device)
        x = repeat(table.special("begin"), "e -> b e", b=b)
        line = prefix.ahead(trunk, x, self.room, ACTION_BLOCK)
        for i in range(self.room - 1):  # where none but the end may follow, nobody asks
            found = self._logits(line.read(x + self.position[i]), table).argmax(dim=-1)
            open_ = open_ & (found < len(table.rows("text")))
            if not open_.any():
                break
            ids[:, i], known[:, i] = torch.where(open_, found, 0), open_
            x = table.embed("text", ids[:, i])
        return Written(value=ids, known=known)

    @staticmethod
    def _logits(hidden: Float[Tensor, "*b e"], table: TokenTable) -> Float[Tensor, "*b v"]:
        """Of every text token, and of the end."""
        return torch.cat([table.logits("text", hidden), table.logits(_END, hidden)], dim=-1).float()
