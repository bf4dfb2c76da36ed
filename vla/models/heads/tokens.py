"""Actions as the tokens of a codec, each written in the light of those before it."""

import torch
from einops import repeat
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.models.codecs.codec import ActionCodec
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
        b = len(prefix.valid)
        ids = torch.zeros(b, self.codec.length, dtype=torch.long, device=prefix.valid.device)
        x = repeat(table.special("begin"), "e -> b 1 e", b=b)
        for i in range(self.codec.length):
            # What follows a complete chunk is padding, which tells nothing; asking takes time, so not before it can be.
            if i >= self._fewest and not self.codec.remaining(ids[:, :i])[1].any():
                ids = ids[:, :i]
                break
            # One new token a turn: the cache of the prefix holds keys and values of everything before it.
            hidden, prefix = prefix.extend(trunk, Segment.of(x + self.position[i], ACTION_BLOCK + i))
            logits = self._logits(hidden, self.codec.allowed(ids[:, :i])[:, None], table)  # (b, 1, v)
            ids[:, i : i + 1] = logits.argmax(dim=-1)
            x = table.embed("action", ids[:, i : i + 1])
        return self.codec.decode(ids)

    def _teach(self, ids: Int64[Tensor, "b l"], table: TokenTable) -> Segment:
        """At each position the token before it; at the first, ``begin``."""
        # Teacher forcing: the labels before each position, shifted by one, so one pass teaches all positions.
        begin = repeat(table.special("begin"), "e -> b 1 e", b=len(ids))
        x = torch.cat([begin, table.embed("action", ids[:, :-1])], dim=1) + self.position
        return Segment.of(x, ACTION_BLOCK + torch.arange(self.codec.length, device=x.device))

    @staticmethod
    def _logits(
        hidden: Float[Tensor, "b q e"], allowed: Bool[Tensor, "b q v"], table: TokenTable
    ) -> Float[Tensor, "b q v"]:
        # The same mask in training and sampling: probability is shared among what may follow, never lost to the rest.
        return table.logits("action", hidden).float().masked_fill(~allowed, -torch.inf)
