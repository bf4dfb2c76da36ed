"""Actions as the tokens of a codec, each written in the light of those before it."""

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.models.codecs.codec import ActionCodec, by_place
from vla.models.heads.head import ACTION_BLOCK, Head
from vla.models.trunk.attention import Transformer
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs, Metrics, Targets, measured
from vla.models.trunk.sequence import Prefix, Segment
from vla.models.trunk.vocabulary import TokenTable


class TokensHead(Head):
    """Autoregressive: every token is a block of its own, so it sees all before it; the codec's grammar is obeyed."""

    def __init__(self, codec: ActionCodec, width: int) -> None:
        super().__init__()
        self.codec = codec
        self.ids, self.room = codec.size, codec.length
        self._spans = _spans(by_place(codec))
        self._fewest = int(codec.remaining(torch.zeros(1, 0, dtype=torch.long))[0])
        self.position = nn.Parameter(torch.zeros(codec.length, width))
        initialise(self)

    def loss(
        self, trunk: Transformer, prefix: Prefix, inputs: Inputs, targets: Targets, table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """Cross entropy over the ids that the grammar allows.

        Committed steps are taught as well: a codec spells a chunk as a whole, and what comes later is written in the
        light of what the head itself wrote of them.
        """
        ids, learn = self.codec.encode(targets.actions, targets.valid)
        hidden, _ = prefix.extend(trunk, self._teach(ids, table))
        logits = self._logits(hidden, self.codec.grammar(ids), table)
        loss = table.cross_entropy(logits, ids)  # (b, l)
        mean = (loss * learn).sum() / learn.sum().clamp(min=1)
        return mean, {"action_loss": measured(mean, learn)}

    def sample(self, trunk: Transformer, prefix: Prefix, inputs: Inputs, table: TokenTable) -> Float[Tensor, "b h d"]:
        """Greedy: the likeliest id that is allowed, fed back."""
        return self.codec.decode(self.write(trunk, prefix, table))

    def write(self, trunk: Transformer, prefix: Prefix, table: TokenTable) -> Int64[Tensor, "b l"]:
        """The tokens of a chunk for each sample of the prefix; of codecs with padding, as many as the longest takes."""
        b, codec, rows = len(prefix.valid), self.codec, table.rows("action")
        ids = torch.zeros(b, codec.length, dtype=torch.long, device=prefix.valid.device)
        x = repeat(table.special("begin"), "e -> b e", b=b)
        # The cache of the prefix holds keys and values of everything before a token, so each turn reads one.
        line = prefix.ahead(trunk, x, codec.length, ACTION_BLOCK)
        # What follows a complete chunk is padding, which tells nothing; asking takes time, so not before it can be, and
        # in the recording of a CUDA graph nobody may ask.
        recorded = ids.is_cuda and torch.cuda.is_current_stream_capturing()
        may_end = codec.length if recorded else self._fewest
        for i, position in enumerate(self.position.unbind()):
            if i >= may_end and not codec.remaining(ids[:, :i])[1].any():
                return ids[:, :i]
            hidden = line.read(x + position)
            if self._spans is None:
                found = self._logits(hidden, codec.allowed(ids[:, :i]), table).argmax(dim=-1)
            else:  # only the rows that are allowed are multiplied
                first, stop = self._spans[i]
                found = F.linear(hidden, rows[first:stop]).argmax(dim=-1) + first
            ids[:, i] = found
            x = table.embed("action", found)
        return ids

    def _teach(self, ids: Int64[Tensor, "b l"], table: TokenTable) -> Segment:
        """At each position the token before it; at the first, ``begin``."""
        # Teacher forcing: the labels before each position, shifted by one, so one pass teaches all positions.
        begin = repeat(table.special("begin"), "e -> b 1 e", b=len(ids))
        x = torch.cat([begin, table.embed("action", ids[:, :-1])], dim=1) + self.position
        return Segment.of(x, ACTION_BLOCK + torch.arange(self.codec.length, device=x.device))

    @staticmethod
    def _logits(
        hidden: Float[Tensor, "*b e"], allowed: Bool[Tensor, "*b v"], table: TokenTable
    ) -> Float[Tensor, "*b v"]:
        # The same mask in training and sampling: probability is shared among what may follow, never lost to the rest.
        return table.logits("action", hidden).float().masked_fill(~allowed, -torch.inf)


def _spans(allowed: Bool[Tensor, "l v"] | None) -> list[tuple[int, int]] | None:
    """First id and the one behind the last at each place, where the grammar depends on the place and leaves no gaps."""
    if allowed is None:
        return None
    first, count = allowed.long().argmax(dim=1), allowed.sum(dim=1)
    inside = torch.arange(allowed.shape[1])
    whole = (inside >= first[:, None]) & (inside < (first + count)[:, None])
    return list(zip(first.tolist(), (first + count).tolist(), strict=True)) if torch.equal(whole, allowed) else None
