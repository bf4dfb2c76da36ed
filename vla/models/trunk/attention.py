"""One attention rule for every decoding, and the transformer that applies it.

Token i sees token j iff they share a segment, ``block[j] <= block[i]`` and j is valid. Blocks 0 0 0 1 1 1 make a
prefix-LM, 0 1 2 3 causal decoding, 0 0 1 1 2 2 block-causal decoding; segments separate packed samples.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.models.trunk.config import TransformerConfig

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values (b, heads, l, e / heads) of each layer."""


def attention_mask(
    block: Int64[Tensor, "b l"],
    valid: Bool[Tensor, "b l"],
    segment: Int64[Tensor, "b l"] | None = None,
    *,
    queries: int | None = None,
) -> Bool[Tensor, "b q l"]:
    """The rule as a dense mask of the last ``queries`` tokens (default: all) against all.

    A token always sees itself, so padding has something to attend to and no row is empty.
    """
    length = block.shape[1]
    start = length - (queries or length)
    mask = (block[:, None, :] <= block[:, start:, None]) & valid[:, None, :]
    if segment is not None:
        mask &= segment[:, None, :] == segment[:, start:, None]
    return mask | torch.eye(length, dtype=torch.bool, device=block.device)[None, start:]


class Transformer(nn.Module):
    """Pre-norm transformer with RMS norms, and a key-value cache on demand."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width)

    def forward(
        self, x: Float[Tensor, "b q e"], mask: Bool[Tensor, "b q l"], cache: Cache | None = None
    ) -> tuple[Float[Tensor, "b q e"], Cache]:
        """Run tokens ``x``; with ``cache``, they come after the ``l - q`` tokens that it holds."""
        # Added to the scores of every layer, so made once: 0 where a token may look, -inf where not.
        bias = torch.zeros_like(mask, dtype=x.dtype).masked_fill_(~mask, -torch.inf)[:, None]  # (b, 1, q, l)
        grown: Cache = []
        for i, block in enumerate(self.blocks):
            x, keys_values = block(x, bias, cache[i] if cache else None)
            grown.append(keys_values)
        return self.norm(x), grown


class _Block(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        hidden = int(config.width * config.mlp_ratio)
        self.heads = config.heads
        self.norm_attention = nn.RMSNorm(config.width)
        # Norms before each part carry the scale, so no projection has a bias.
        self.qkv = nn.Linear(config.width, 3 * config.heads * config.size, bias=False)
        self.out = nn.Linear(config.heads * config.size, config.width, bias=False)
        self.norm_mlp = nn.RMSNorm(config.width)
        self.up = nn.Linear(config.width, hidden, bias=False)
        self.down = nn.Linear(hidden, config.width, bias=False)
        # What is added to the residual stream starts small, by the number of additions (GPT-2), so that depth does not
        # change the scale at which training begins.
        for projection in (self.out, self.down):
            nn.init.normal_(projection.weight, std=0.02 / (2 * config.layers) ** 0.5)

    def forward(
        self, x: Float[Tensor, "b q e"], bias: Float[Tensor, "b 1 q l"], past: tuple[Tensor, Tensor] | None
    ) -> tuple[Float[Tensor, "b q e"], tuple[Tensor, Tensor]]:
        qkv = rearrange(self.qkv(self.norm_attention(x)), "b l (three h e) -> three b h l e", three=3, h=self.heads)
        q, k, v = qkv.unbind(0)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)  # (b, heads, l, e / heads)
        # Two products instead of scaled_dot_product_attention: several times faster on CPU at these lengths.
        weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias, dim=-1)
        x = x + self.out(rearrange(weights @ v, "b h l e -> b l (h e)"))
        x = x + self.down(F.gelu(self.up(self.norm_mlp(x)), approximate="tanh"))
        return x, (k, v)
