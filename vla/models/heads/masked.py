"""The tokens of a codec in a few rounds, the surest first: discrete diffusion (arXiv 2508.20072, 2202.04200).

Training masks a random share of the tokens, which see each other, and asks for those. Decoding begins with all of them
masked; each round fills those of which the model is surest, until none is left. One round is parallel decoding. What
has been filled stays: a second masking of doubtful tokens is not done.
"""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.core.errors import ConfigError
from vla.models.codecs.codec import ActionCodec, by_place
from vla.models.heads.head import ACTION_BLOCK, Head
from vla.models.trunk.attention import Transformer
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs, Metrics, Targets, measured
from vla.models.trunk.sequence import Prefix, Segment
from vla.models.trunk.vocabulary import TokenTable


class MaskedHead(Head):
    """For codecs whose grammar depends on the place of a token alone, so that tokens can be filled in any order."""

    allowed: Tensor
    """bool (l, v): what may stand at each place."""

    def __init__(self, codec: ActionCodec, rounds: int, width: int) -> None:
        super().__init__()
        self.codec, self.rounds = codec, rounds
        self.ids, self.room = codec.size, codec.length
        self.position = nn.Parameter(torch.empty(codec.length, width))
        self.register_buffer("allowed", _grammar(codec), persistent=False)
        initialise(self)

    def loss(
        self, trunk: Transformer, prefix: Prefix, inputs: Inputs, targets: Targets, table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """Cross entropy of the tokens that are masked; committed steps are taught as well, see `TokensHead`."""
        ids, learn = self.codec.encode(targets.actions, targets.valid)
        masked = self._mask(len(ids), ids.device)
        # What may not be learned is always masked: shown, it would tell of labels that nobody vouches for.
        logits = self._read(trunk, prefix, ids, ~masked & learn, table)
        loss = table.cross_entropy(logits, ids)  # (b, l)
        weight = learn & masked
        mean = torch.where(weight, loss, 0.0).sum() / weight.sum().clamp(min=1)
        return mean, {"action_loss": measured(mean, weight)}

    def sample(self, trunk: Transformer, prefix: Prefix, inputs: Inputs, table: TokenTable) -> Float[Tensor, "b h d"]:
        """`rounds` passes, each of all tokens."""
        shape = len(prefix.valid), self.codec.length
        ids = torch.zeros(shape, dtype=torch.long, device=prefix.valid.device)
        filled = torch.zeros_like(ids, dtype=torch.bool)
        for left in self._left():
            chance, found = self._read(trunk, prefix, ids, filled, table).softmax(dim=-1).max(dim=-1)  # (b, l) each
            ids = torch.where(filled, ids, found)
            # What was filled before counts as certain, so it stays among those that are kept.
            surest = chance.masked_fill(filled, math.inf).topk(self.codec.length - left, dim=-1).indices
            filled = torch.zeros_like(filled).scatter(1, surest, True)
        return self.codec.decode(ids)

    def _left(self) -> list[int]:
        """Tokens that are masked after each round: few are filled first, where little is known, and more later."""
        shares = (math.cos(math.pi / 2 * i / self.rounds) for i in range(1, self.rounds))
        return [*(int(share * self.codec.length) for share in shares), 0]

    def _mask(self, b: int, device: torch.device) -> Bool[Tensor, "b l"]:
        """A share of each chunk's tokens, drawn as decoding goes through them, of at least one token."""
        share = torch.cos(math.pi / 2 * torch.rand(b, 1, device=device))
        order = torch.rand(b, self.codec.length, device=device).argsort(dim=1)
        return order < (share * self.codec.length).ceil().clamp(min=1)

    def _read(
        self,
        trunk: Transformer,
        prefix: Prefix,
        ids: Int64[Tensor, "b l"],
        shown: Bool[Tensor, "b l"],
        table: TokenTable,
    ) -> Float[Tensor, "b l v"]:
        """Logits of every token, of which those that are ``shown`` are read and the others asked for."""
        x = torch.where(shown[..., None], table.embed("action", ids), table.special("query")) + self.position
        hidden, _ = prefix.extend(trunk, Segment.of(x, ACTION_BLOCK))
        return table.logits("action", hidden).float().masked_fill(~self.allowed, -torch.inf)


def _grammar(codec: ActionCodec) -> Bool[Tensor, "l v"]:
    """What may stand at each place, whatever stands before it; a codec of which that is not true is refused."""
    allowed = by_place(codec)
    if allowed is None:
        raise ConfigError(
            f"model.head: kind masked fills tokens in any order, and what {type(codec).__name__} allows at a place "
            "depends on the tokens before it; use kind tokens with this codec"
        )
    return allowed
