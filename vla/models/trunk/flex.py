"""Attention by FlexAttention: the rule is compiled into the kernel, which skips squares in which nobody may look.

On a GPU it is compiled, and has gradients. On a CPU it runs as written, forward only: slow, and the same numbers.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from vla.models.trunk.block import Attend
from vla.models.trunk.cache import Marks


def flex(rule: Callable[..., Tensor], marks: Marks, start: int, stop: int) -> Attend:
    """Attention of the tokens from ``start`` to before ``stop`` to all of ``marks``, under ``rule``.

    The squares are found here, once for all layers; in the recording of a CUDA graph that must not happen.
    """
    segment, block, valid = marks.segment, marks.block, marks.valid
    b, length = valid.shape
    squares = create_block_mask(
        # A lambda, because PyTorch counts the arguments and checkers of types hide those of named functions.
        lambda b, h, q, k: rule(
            segment[q + start], block[q + start], segment[k], block[k], valid[b, k], q + start == k
        ),
        *(b, None, stop - start, length),
        device=valid.device,
    )
    attention: Any = _compiled() if marks.valid.is_cuda else flex_attention

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # Norms and rotations may leave float32 where the values are bfloat16; the kernel takes one precision.
        q, k = q.to(v.dtype), k.to(v.dtype)
        read: Tensor = attention(q, k, v, block_mask=squares, enable_gqa=q.shape[1] != k.shape[1])
        return read

    return attend


@cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(flex_attention)
