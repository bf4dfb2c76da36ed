"""The tokens of a codec in a few rounds, the surest first: discrete diffusion (arXiv 2508.20072, 2202.04200).

Training masks a random share of the tokens, which see each other, and asks for those. Decoding begins with all of them
masked; each round fills those of which the model is surest, until none is left. One round is parallel decoding. What
has been filled stays: a second masking of doubtful tokens is not done.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.core.errors import ConfigError
from vla.models.codecs.codec import ActionCodec, by_place
from vla.models.heads.head import ACTION_BLOCK, Head
from vla.models.heads.rounds import draw_mask, fill
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
        masked = draw_mask(len(ids), self.codec.length, ids.device)
        # What may not be learned is always masked: shown, it would tell of labels that nobody vouches for.
        logits = self._read(trunk, prefix, ids, ~masked & learn, table)
        loss = table.cross_entropy(logits, ids)  # (b, l)
        weight = learn & masked
        mean = torch.where(weight, loss, 0.0).sum() / weight.sum().clamp(min=1)
        return mean, {"action_loss": measured(mean, weight)}

    def sample(self, trunk: Transformer, prefix: Prefix, inputs: Inputs, table: TokenTable) -> Float[Tensor, "b h d"]:
        """`rounds` passes, each of all tokens."""

        def read(ids: Int64[Tensor, "b l"], filled: Bool[Tensor, "b l"]) -> Float[Tensor, "b l v"]:
            return self._read(trunk, prefix, ids, filled, table)

        b, device = len(prefix.valid), prefix.valid.device
        return self.codec.decode(fill(read, b, self.codec.length, self.rounds, device))

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
