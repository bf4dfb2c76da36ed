"""Rotary positions: queries and keys are turned by where they are, so that scores see distances (arXiv 2104.09864).

A token is somewhere in time, in a row and in a column. Each pair of channels turns with one of the three, at a wave
length of its own (M-RoPE, arXiv 2409.12191); text moves along all three at once, and is turned as if there were one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor


class Turns(NamedTuple):
    """How far each token's channels are turned, the second half as the first; sines of the first half are negative."""

    cos: Float[Tensor, "q c"]
    sin: Float[Tensor, "q c"]


def turns(position: Int64[Tensor, "q 3"], size: int, base: float, sections: Sequence[int] = ()) -> Turns:
    """Of tokens at (time, row, column), for heads of ``size`` channels.

    Pair i of the size / 2 pairs turns by base ** (-2 i / size) a step; ``sections`` are how many of them, from the
    first one on, follow each axis, and without them all follow time.
    """
    # float32 whatever the weights are: bfloat16 cannot tell position 257 from 256.
    pairs = torch.arange(0, size, 2, device=position.device, dtype=torch.float32)
    steps = position.to(torch.float32)
    if sections:
        # The parts of each axis are put one behind the other, which is one multiplication by a chosen column.
        along = torch.cat([steps[:, axis : axis + 1].expand(-1, n) for axis, n in enumerate(sections)], dim=1)
    else:
        along = steps[:, :1]
    angles = along * base ** (-pairs / size)  # (q, size / 2)
    cos, sin = angles.cos(), angles.sin()
    return Turns(torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1))


def rotate(x: Float[Tensor, "b h q c"], by: Turns) -> Float[Tensor, "b h q c"]:
    """Turn each pair of channels: channel i goes with channel i + c / 2, as in the published weights."""
    return (x * by.cos + x.roll(x.shape[-1] // 2, dims=-1) * by.sin).to(x.dtype)
