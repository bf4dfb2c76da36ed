"""One attention rule for every decoding, and the transformer that applies it.

Token i sees token j iff they share a segment, ``block[j] <= block[i]`` and j is valid. Blocks 0 0 0 1 1 1 make a
prefix-LM, 0 1 2 3 causal decoding, 0 0 1 1 2 2 block-causal decoding; segments separate packed samples. `may_look` is
the rule; a dense mask (here) and FlexAttention (`vla.models.trunk.flex`) are two ways to compute under it.
"""

from functools import partial
from typing import no_type_check

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla.core.errors import ConfigError
from vla.models.trunk.block import Aside, Attend, Between, Block, Norm
from vla.models.trunk.cache import Cache, GrowingCache
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.rotary import turns

_WORTH_FLEX = 512
"""Keys from which on FlexAttention is taken on a GPU: it skips squares of 128 by 128, of which fewer keys have none."""


@no_type_check  # FlexAttention traces it, and cannot trace a check of its arguments
def may_look(
    segment: Tensor, block: Tensor, to_segment: Tensor, to_block: Tensor, to_valid: Tensor, itself: Tensor
) -> Tensor:
    """The rule, of a token and one that it may look at, or of as many pairs as the shapes together have.

    A token always sees itself, so padding has something to attend to and no row is empty.
    """
    return (segment == to_segment) & (to_block <= block) & to_valid | itself


def attention_mask(
    block: Int64[Tensor, "*b l"],
    valid: Bool[Tensor, "b l"],
    segment: Int64[Tensor, "*b l"] | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
) -> Bool[Tensor, "b q l"]:
    """The rule as a dense mask of the tokens from ``start`` to before ``stop`` (default: all) against all."""
    segment = torch.zeros_like(block) if segment is None else segment
    index = torch.arange(block.shape[-1], device=block.device)
    itself = index[start:stop, None] == index
    rows = segment[..., start:stop, None], block[..., start:stop, None]
    seen: Tensor = may_look(*rows, segment[..., None, :], block[..., None, :], valid[:, None, :], itself)
    return seen


def dense(mask: Bool[Tensor, "b q l"], dtype: torch.dtype) -> Attend:
    """Attention as two products: several times faster on CPU than scaled_dot_product_attention at these lengths."""
    # Added to the scores of every layer, so made once: 0 where a token may look, -inf where not.
    bias = torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)[:, None]  # (b, 1, q, l)
    return partial(_two_products, bias=bias)


def _two_products(
    q: Float[Tensor, "b h q c"],
    k: Float[Tensor, "b k l c"],
    v: Float[Tensor, "b k l c"],
    *,
    bias: Float[Tensor, "b 1 q l"],
) -> Float[Tensor, "b h q c"]:
    shared, length = q.shape[1] // k.shape[1], q.shape[2]
    if shared == 1:
        return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias, dim=-1) @ v
    # Queries that share keys become rows of one product: keys are not copied for each of them.
    q = rearrange(q, "b (k g) q c -> b k (g q) c", g=shared)
    scores = rearrange(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, "b k (g q) l -> b k g q l", g=shared)
    weights = torch.softmax(scores + bias[:, :, None], dim=-1)
    return rearrange(weights.flatten(2, 3) @ v, "b k (g q) c -> b (k g) q c", q=length)


class Transformer(nn.Module):
    """Pre-norm transformer with RMS norms, and a key-value cache on demand."""

    def __init__(self, config: TransformerConfig, between: Between | None = None) -> None:
        """``between`` its blocks may stand what looks aside."""
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.between = between
        self.norm = Norm(config.width, config)

    def forward(
        self,
        x: Float[Tensor, "b q e"],
        mask: Bool[Tensor, "b q l"] | Attend,
        cache: Cache | None = None,
        position: Int64[Tensor, "q 3"] | None = None,
        aside: Aside | None = None,
    ) -> tuple[Float[Tensor, "b q e"], Cache]:
        """Run tokens ``x`` at (time, row, column), and keep their keys and values in ``cache``.

        Who sees whom is a mask, or attention that knows it already. Without positions the tokens stand one behind the
        other from 0 on; they matter where the configuration has rotary ones.
        """
        config = self.config
        assert cache is None or not cache.start or position is not None or config.rope is None, "positions are missing"
        attend = dense(mask, x.dtype) if isinstance(mask, Tensor) else mask
        cache = GrowingCache() if cache is None else cache
        by = None
        if config.rope is not None:
            if position is None:
                position = torch.arange(x.shape[1], device=x.device)[:, None].expand(-1, 3)
            by = turns(position, config.size, config.rope, config.rope_sections)
        again = config.recompute and torch.is_grad_enabled()
        seen = aside.seen(cache.start, cache.start + x.shape[1]) if self.between is not None and aside else None
        for layer, block in enumerate(self.blocks):
            if self.between is not None and aside is not None:
                x = self.between(x, layer, aside.x, seen)
            if again:
                x = checkpoint(block, x, attend, cache, layer, by, use_reentrant=False)
            else:
                x = block(x, attend, cache, layer, by)
        return self.norm(x), cache

    def attend(self, cache: Cache, x: Float[Tensor, "b q e"]) -> Attend:
        """Attention of the newest tokens of ``cache``, under the rule, by what the configuration and the device say."""
        marks, backend = cache.marks, self.config.attention
        start, stop = cache.start, cache.start + x.shape[1]
        if backend == "auto":
            backend = "flex" if x.is_cuda and len(marks) >= _WORTH_FLEX and self.config.size >= 16 else "dense"
        if backend == "flex":
            if torch.is_grad_enabled() and not x.is_cuda:
                raise ConfigError("model.trunk.attention=flex has no gradients on a CPU; set it to auto or dense")
            from vla.models.trunk.flex import flex

            return flex(may_look, marks, start, stop)
        return dense(attention_mask(marks.block, marks.valid, marks.segment, start=start, stop=stop), x.dtype)
