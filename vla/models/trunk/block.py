"""One block of a transformer: attention, then an MLP, each behind a norm and added to what came in.

And what may stand between blocks: layers that read what is laid aside, tokens that are no part of the sequence.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.models.trunk.cache import Cache
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.rotary import Turns, rotate

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries (b, h, q, c), keys and values (b, k, l, c) to what the queries read (b, h, q, c); it knows who sees whom."""


class Norm(nn.Module):
    """Root mean square norm (arXiv 1910.07467) of the last axis."""

    def __init__(self, size: int, config: TransformerConfig) -> None:
        super().__init__()
        self.eps, self.offset = config.norm_eps, config.norm_offset
        self.weight = nn.Parameter(torch.empty(size))
        initialise(self, neutral=0.0 if config.norm_offset else 1.0)

    def forward(self, x: Float[Tensor, "*b e"]) -> Float[Tensor, "*b e"]:
        """Scaled to a root mean square of 1, then by the weight."""
        return F.rms_norm(x, self.weight.shape, 1 + self.weight if self.offset else self.weight, self.eps)


class Block(nn.Module):
    """No projection has a bias: the norms before them carry the scale."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        size, hidden = config.size, config.hidden
        self.heads, self.keys, self.size = config.heads, config.keys, size
        self.norm_attention = Norm(config.width, config)
        self.qkv = nn.Linear(config.width, (config.heads + 2 * config.keys) * size, bias=False)
        self.out = nn.Linear(config.heads * size, config.width, bias=False)
        self.norm_mlp = Norm(config.width, config)
        self.up = nn.Linear(config.width, hidden, bias=False)
        self.down = nn.Linear(hidden, config.width, bias=False)
        self.gate = nn.Linear(config.width, hidden, bias=False) if config.gated else None
        self.norm_q, self.norm_k = (Norm(size, config) if config.qk_norm else None for _ in range(2))
        self.silu = config.activation == "silu"
        initialise(self, additions=2 * config.layers)

    def forward(
        self, x: Float[Tensor, "b q e"], attend: Attend, cache: Cache, layer: int, by: Turns | None
    ) -> Float[Tensor, "b q e"]:
        """The tokens, with what they read and what was made of it; their keys and values are kept as of ``layer``."""
        # No einops in this method: with one new token it takes as long as the products do.
        qkv = self.qkv(self.norm_attention(x)).view(*x.shape[:2], -1, self.size).transpose(1, 2)  # (b, h + 2 k, q, c)
        q, k, v = torch.split_with_sizes(qkv, [self.heads, self.keys, self.keys], dim=1)
        if self.norm_q is not None and self.norm_k is not None:
            q, k = self.norm_q(q), self.norm_k(k)
        if by is not None:
            q, k = rotate(q, by), rotate(k, by)
        read = attend(q, *cache.put(layer, k, v))
        x = x + self.out(read.transpose(1, 2).flatten(2))
        made: Tensor = self.down(activated(self.norm_mlp(x), self.up, self.gate, silu=self.silu))
        return x + made


def activated(
    x: Float[Tensor, "b q e"], up: nn.Module, gate: nn.Module | None, *, silu: bool
) -> Float[Tensor, "b q m"]:
    """The hidden units of an MLP, with a gate or without."""
    chosen = up(x) if gate is None else gate(x)
    chosen = F.silu(chosen) if silu else F.gelu(chosen, approximate="tanh")
    return chosen if gate is None else chosen * up(x)


@dataclass(frozen=True, kw_only=True)
class Aside:
    """Tokens beside a sequence: each picture's stand before one of its tokens, and are seen from there on."""

    x: Float[Tensor, "b k e"]
    valid: Bool[Tensor, "b k"]
    place: Int64[Tensor, " k"]
    """How many tokens of the sequence come before the picture."""

    @staticmethod
    def joined(parts: "Sequence[Aside]") -> "Aside":
        """Those of all, one behind the other."""
        return Aside(
            x=torch.cat([part.x for part in parts], dim=1),
            valid=torch.cat([part.valid for part in parts], dim=1),
            place=torch.cat([part.place for part in parts]),
        )

    def seen(self, start: int, stop: int) -> Bool[Tensor, "b q k"]:
        """What the tokens from ``start`` to before ``stop`` see: each the latest picture before it, and no other."""
        index = torch.arange(start, stop, device=self.place.device)
        before = self.valid[:, None] & (self.place <= index[:, None])  # (b, q, k)
        latest = torch.where(before, self.place, -1).amax(dim=-1, keepdim=True)
        return before & (self.place == latest)

    def rows(self, rows: Int64[Tensor, " r"]) -> "Aside":
        """Those of some samples."""
        return Aside(x=self.x[rows], valid=self.valid[rows], place=self.place)

    def detached(self) -> "Aside":
        """The same, through which no gradient flows."""
        return Aside(x=self.x.detach(), valid=self.valid, place=self.place)

    def repeated(self, times: int) -> "Aside":
        """Those of the batch ``times`` times, one after the other."""
        return Aside(x=self.x.repeat(times, 1, 1), valid=self.valid.repeat(times, 1), place=self.place)


class Between(nn.Module, ABC):
    """What stands between the blocks of a transformer and reads what is laid aside."""

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "b q e"], layer: int, aside: Float[Tensor, "b k e"], seen: Bool[Tensor, "b q k"]
    ) -> Float[Tensor, "b q e"]:
        """The tokens as block ``layer`` gets them."""
