"""One token after the other: the loop in which an autoregressive policy spends its time.

Extending a prefix by one token makes anew what is known ahead of all tokens: who sees whom, how far each is turned,
where its keys and values go. And modules call modules. In a small transformer all that takes longer than the products.
So a line of tokens makes it once, before the first. Then a token is one compiled function in each layer, on a CPU in
float32 with few rows; elsewhere some twenty-five operations, none of which waits for the device, on shapes that stay
the same. What is computed is what `vla.models.trunk.block` computes; `tests/models/trunk/test_line.py` holds them
against each other.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from vla.models.trunk.attention import Transformer, attention_mask
from vla.models.trunk.block import Block, Norm
from vla.models.trunk.cache import Marks, StaticCache
from vla.models.trunk.rotary import turns

_Scale = Callable[[Tensor], Tensor]
"""A norm of the last axis."""
_MOST_ROWS = 8
"""Up to which one core, without any operations between the products, is no slower than all of them with."""


class Line(ABC):
    """Tokens that are read one after the other, each in the light of all before it."""

    @abstractmethod
    def read(self, x: Float[Tensor, "b e"]) -> Float[Tensor, "b e"]:
        """The next token: its hidden state."""


def static_line(
    trunk: Transformer, cache: StaticCache, position: Int64[Tensor, "l 3"], like: Float[Tensor, "b e"], block: int
) -> Line:
    """At most as many tokens as have positions, which are ``like`` those, behind a static cache."""
    kind = CompiledLine if _compiles(trunk, cache, like) else StaticLine
    return kind(trunk, cache, position, like, block)


def _compiles(trunk: Transformer, cache: StaticCache, like: Float[Tensor, "b e"]) -> bool:
    plain = like.device.type == "cpu" and len(like) <= _MOST_ROWS and not torch.is_autocast_enabled("cpu")
    exact = {like.dtype, trunk.norm.weight.dtype, cache.held(0).dtype} == {torch.float32}
    # Who compiles or counts operations must see them.
    return plain and exact and not torch.compiler.is_compiling() and not is_in_torch_dispatch_mode()


def _taken(
    cache: StaticCache, like: Float[Tensor, "b e"], length: int, block: int
) -> tuple[StaticCache, Float[Tensor, "b q l"]]:
    """All places of a line: the cache with them, and what is added to scores, -inf where a token may not look."""
    steps = torch.arange(length, device=like.device)
    there = torch.ones(len(like), length, dtype=torch.bool, device=like.device)
    cache = cache.extended(Marks(segment=torch.zeros_like(steps), block=steps + block, valid=there))
    marks, stop = cache.marks, cache.start + length
    mask = attention_mask(marks.block, marks.valid, marks.segment, start=cache.start, stop=stop)
    return cache, torch.zeros_like(mask, dtype=like.dtype).masked_fill_(~mask, -torch.inf)


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
        cache, bias = _taken(cache, like, length, block)
        stop = cache.start + length
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
    size = len(norm.weight)
    weight, least = _weight(norm) * size**0.5, torch.tensor((size * _eps(norm)) ** 0.5)

    def scaled(x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        made: Tensor = x / torch.hypot(length, least) * weight
        return made

    return scaled


def _weight(norm: Norm) -> Float[Tensor, " e"]:
    return 1 + norm.weight if norm.offset else norm.weight


def _eps(norm: Norm) -> float:
    return torch.finfo(torch.float32).eps if norm.eps is None else norm.eps


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


class CompiledLine(Line):
    """Behind a static cache, whose memory compiled functions read and write."""

    def __init__(
        self,
        trunk: Transformer,
        cache: StaticCache,
        position: Int64[Tensor, "l 3"],
        like: Float[Tensor, "b e"],
        block: int,
    ) -> None:
        # Numba takes a third of a second to import, and nobody else here needs it.
        from vla.models.trunk.kernels.layer import layer, norm

        config, length = trunk.config, len(position)
        cache, bias = _taken(cache, like, length, block)
        turned = torch.empty(length, 0, config.size)
        if config.rope is not None:
            by = turns(position, config.size, config.rope, config.rope_sections)
            turned = torch.stack([by.cos, by.sin], dim=1)
        hidden = like.new_empty(length, *like.shape)
        self._layer, self._norm = layer, norm
        self._layers = [_arrays(part, cache.held(i)) for i, part in enumerate(trunk.blocks)]  # type: ignore[arg-type]
        self._last = _array(_weight(trunk.norm))
        # Of each token: its rows, where it looks, and how it is turned.
        self._steps = list(zip(_array(hidden), _array(bias.transpose(0, 1)), _array(turned), strict=True))
        self._hidden, self._start = hidden.unbind(), cache.start
        self._eps, self._silu = _eps(trunk.norm), config.activation == "silu"
        self._token = 0

    def read(self, x: Float[Tensor, "b e"]) -> Float[Tensor, "b e"]:
        """See `Line.read`."""
        token = self._token
        self._token += 1
        found = self._hidden[token].copy_(x)
        rows, bias, turn = self._steps[token]
        for arrays in self._layers:
            self._layer(rows, *arrays, bias, turn, self._start + token, self._eps, self._silu)
        self._norm(rows, self._last, self._eps)
        return found


def _arrays(block: Block, held: Float[Tensor, "b n l c"]) -> tuple[np.ndarray, ...]:
    """What `vla.models.trunk.kernels.layer` wants of one block: its weights, and memory."""
    norms = [norm for norm in (block.norm_attention, block.norm_mlp, block.norm_q, block.norm_k) if norm is not None]
    up = block.up.weight
    gate, up = (up, up[:0]) if block.gate is None else (block.gate.weight, up)
    matrices = (block.qkv.weight, block.out.weight, gate, up, block.down.weight)
    return (_array(torch.cat([_weight(norm) for norm in norms])), *map(_array, matrices), held.numpy())


def _array(tensor: Tensor) -> np.ndarray:
    """The same memory, where it is in order already: compiled functions take no other."""
    found: np.ndarray = tensor.detach().contiguous().numpy()
    return found
