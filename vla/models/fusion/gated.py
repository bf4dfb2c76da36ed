"""Gated cross-attention between the blocks of a language model (Flamingo, arXiv 2204.14198, section 2.3).

    y ← y + tanh(α_a) · XAttn(norm y, pictures)        y ← y + tanh(α_f) · FFW(norm y)        α = 0 at first

So a language model whose own weights stay as they are begins as itself, to the last bit, and learns how far to look.
Each token looks at the latest picture before it and at no other (`vla.models.trunk.block.Aside`); one before which
there is none reads nothing. Norms and MLPs are those of the trunk, as IDEFICS takes its language model's: the paper has
LayerNorm and a squared ReLU. Keys and values of pictures are made anew for every token that is read later: there are
few of them.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla.models.fusion.attention import CrossAttention
from vla.models.trunk.block import Between, Norm, activated
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.initialisation import initialise


class GatedLayers(Between):
    """One before every so many blocks, the first among them."""

    def __init__(self, config: TransformerConfig, *, every: int) -> None:
        super().__init__()
        layers = range(0, config.layers, every)
        self.blocks = nn.ModuleDict({str(layer): GatedCrossAttention(config, config.width) for layer in layers})

    def forward(
        self, x: Float[Tensor, "b q e"], layer: int, aside: Float[Tensor, "b k e"], seen: Bool[Tensor, "b q k"]
    ) -> Float[Tensor, "b q e"]:
        """See `Between.forward`."""
        if (name := str(layer)) not in self.blocks:
            return x
        looked: Tensor = self.blocks[name](x, aside, seen)
        return looked


class GatedCrossAttention(nn.Module):
    """Attention to pictures and an MLP, each added as far as its gate is open."""

    def __init__(self, config: TransformerConfig, channels: int) -> None:
        super().__init__()
        width, hidden = config.width, config.hidden
        self.norm_attention, self.norm_mlp = Norm(width, config), Norm(width, config)
        self.attention = CrossAttention(width, channels, heads=config.heads, head_dim=config.size)
        self.up, self.down = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)
        self.gate = nn.Linear(width, hidden, bias=False) if config.gated else None
        self.silu = config.activation == "silu"
        self.attention_opening, self.mlp_opening = (nn.Parameter(torch.empty(1)) for _ in range(2))
        initialise(self)

    def forward(
        self, x: Float[Tensor, "b q e"], pictures: Float[Tensor, "b k c"], seen: Bool[Tensor, "b q k"]
    ) -> Float[Tensor, "b q e"]:
        """The tokens, with what they saw and what was made of it."""
        read = self.attention(self.norm_attention(x), pictures, pictures, seen)
        x = x + torch.tanh(self.attention_opening) * read
        made: Tensor = self.down(activated(self.norm_mlp(x), self.up, self.gate, silu=self.silu))
        return x + torch.tanh(self.mlp_opening) * made
