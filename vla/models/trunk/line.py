"""One token after the other: the loop in which an autoregressive policy spends its time.

Extending a prefix by one token makes anew what is known ahead of all tokens: who sees whom, how far each is turned,
where its keys and values go. And modules call modules. In a small transformer all that takes longer than the products.
So a line of tokens makes it once, before the first, and then a token is some twenty-five operations in each layer, none
of which waits for the device, on shapes that stay the same. What is computed is what `vla.models.trunk.block` computes;
`tests/models/trunk/test_line.py` holds the two against each other.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from vla.models.trunk.attention import Transformer, attention_mask
from vla.models.trunk.block import Block, Norm
from vla.models.trunk.cache import Marks, StaticCache
from vla.models.trunk.rotary import turns

_Scale = Callable[[Tensor], Tensor]
"""A norm of the last axis."""


class Line(ABC):
    """Tokens that are read one after the other, each in the light of all before it."""

    @abstractmethod
    def read(self, x: Float[Tensor, "b e"]) -> Float[Tensor, "b e"]:
        """The next token: its hidden state."""


class StaticLine(Line):
    """Behind a static cache, in which it takes all its places at once."""

    def __init__(
        self,
        trunk: Transformer,
        cache: StaticCache,
        position: Int64[Tensor, "l 3"],
        like: Float[Tensor, "b e"],
        block: int,
    ) -> None:
        config, length = trunk.config, len(position)
        steps = torch.arange(length, device=like.device)
        there = torch.ones(len(like), length, dtype=torch.bool, device=like.device)
        cache = cache.extended(Marks(segment=torch.zeros_like(steps), block=steps + block, valid=there))
        marks, stop = cache.marks, cache.start + length
        mask = attention_mask(marks.block, marks.valid, marks.segment, start=cache.start, stop=stop)
        bias = torch.zeros_like(mask, dtype=like.dtype).masked_fill_(~mask, -torch.inf)
        self._bias = bias[:, None, None].unbind(3)  # (b, 1, 1, l) for each token
        self._turns = None if config.rope is None else _Turns(trunk, position, config.rope)
        self._layers = [_layer(part, cache, i, stop) for i, part in enumerate(trunk.blocks)]  # type: ignore[arg-type]
        self._norm = _scale(trunk.norm)
        self._split = [config.heads, 2 * config.keys]
        self._heads = len(like), sum(self._split), 1, config.size
        self._rows = len(like), config.heads * config.size
        where = like.device.type
        less = torch.amp.is_autocast_available(where) and torch.is_autocast_enabled(where)
        self._add = _in_two if less else torch.addmm
        self._shared = config.heads != config.keys
        self._activate = F.silu if config.activation == "silu" else _gelu
        self._token = 0

    def read(self, x: Float[Tensor, "b e"]) -> Float[Tensor, "b e"]:
        """See `Line.read`."""
        token = self._token
        self._token += 1
        by = None if self._turns is None else self._turns.of(token)
        for layer in self._layers:
            x = self._through(layer, x, token, by)
        return self._norm(x)

    def _through(
        self, layer: "_Layer", x: Float[Tensor, "b e"], token: int, by: "_Turn | None"
    ) -> Float[Tensor, "b e"]:
        qkv = torch.mm(layer.norm_attention(x), layer.qkv)  # (b, (h + 2 k) c)
        if layer.norm_q is not None and layer.norm_k is not None:
            q, kv = qkv.view(self._heads).split_with_sizes(self._split, dim=1)
            k, v = kv.chunk(2, dim=1)
            qkv = torch.cat([layer.norm_q(q), layer.norm_k(k), v], dim=1).flatten(1)
        if by is not None:
            qkv = (qkv * by.cos).addcmul_(qkv.index_select(1, by.other), by.sin)
        q, kv = qkv.view(self._heads).split_with_sizes(self._split, dim=1)  # (b, h, 1, c), (b, 2 k, 1, c)
        layer.places[token].copy_(kv)
        read = F.scaled_dot_product_attention(
            q, layer.keys, layer.values, attn_mask=self._bias[token], enable_gqa=self._shared
        )
        x = self._add(x, read.reshape(self._rows), layer.out)
        seen = layer.norm_mlp(x)
        if layer.gate is None:
            made = self._activate(torch.mm(seen, layer.up))
        else:
            made = self._activate(torch.mm(seen, layer.gate)) * torch.mm(seen, layer.up)
        return self._add(x, made, layer.down)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """One block as a line needs it: matrices to multiply rows by, and memory."""

    norm_attention: _Scale
    qkv: Tensor
    norm_q: _Scale | None
    norm_k: _Scale | None
    keys: Tensor
    values: Tensor
    places: tuple[Tensor, ...]
    """Where both of each token go, (b, 2 k, 1, c)."""
    out: Tensor
    norm_mlp: _Scale
    gate: Tensor | None
    up: Tensor
    down: Tensor


def _layer(block: Block, cache: StaticCache, number: int, stop: int) -> _Layer:
    held = cache.held(number)
    keys, values = held.chunk(2, dim=1)
    return _Layer(
        norm_attention=_scale(block.norm_attention),
        qkv=block.qkv.weight.t(),
        norm_q=_scale(block.norm_q) if block.norm_q is not None else None,
        norm_k=_scale(block.norm_k) if block.norm_k is not None else None,
        keys=keys,
        values=values,
        places=held[:, :, cache.start : stop].split(1, dim=2),
        out=block.out.weight.t(),
        norm_mlp=_scale(block.norm_mlp),
        gate=block.gate.weight.t() if block.gate is not None else None,
        up=block.up.weight.t(),
        down=block.down.weight.t(),
    )


def _scale(norm: Norm) -> _Scale:
    """The norm in fewer operations, where it is none as a whole: on a CPU `rms_norm` is a dozen of them."""
    if norm.weight.device.type != "cpu" or norm.weight.dtype != torch.float32:
        return norm
    # x / sqrt(mean x² + eps), with sums in the place of means.
    size, eps = len(norm.weight), torch.finfo(torch.float32).eps if norm.eps is None else norm.eps
    weight, least = (1 + norm.weight if norm.offset else norm.weight) * size**0.5, torch.tensor((size * eps) ** 0.5)

    def scaled(x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        made: Tensor = x / torch.hypot(length, least) * weight
        return made

    return scaled


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _in_two(x: Tensor, rows: Tensor, matrix: Tensor) -> Tensor:
    """Where products are computed in less precision, what they are added to is not."""
    return x + torch.mm(rows, matrix)


class _Turn(NamedTuple):
    """How one token is turned."""

    cos: Float[Tensor, "1 n"]
    sin: Float[Tensor, "1 n"]
    other: Int64[Tensor, " n"]
    """Of each channel the one that it is a pair with."""


class _Turns:
    """How each token is turned, all heads at once: n = (h + 2 k) c channels, of which values are turned by nothing."""

    def __init__(self, trunk: Transformer, position: Int64[Tensor, "l 3"], base: float) -> None:
        config = trunk.config
        by = turns(position, config.size, base, config.rope_sections)
        turned, half = config.heads + config.keys, config.size // 2
        cos = torch.ones(len(position), turned + config.keys, config.size, device=position.device)
        sin = torch.zeros_like(cos)
        cos[:, :turned], sin[:, :turned] = by.cos[:, None], by.sin[:, None]
        self._cos, self._sin = (part.flatten(1).split(1) for part in (cos, sin))
        channels = torch.arange(cos[0].numel(), device=position.device)
        self._other = channels.view(cos.shape[1:]).roll(half, dims=-1).flatten()

    def of(self, token: int) -> _Turn:
        """The one of a token."""
        return _Turn(self._cos[token], self._sin[token], self._other)
