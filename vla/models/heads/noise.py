"""Noise that belongs to a sample: its seed decides it, whatever else is in the batch and on whatever device.

One of torch's generators serves a whole batch, so a sample's noise would rest upon its row; one generator for each
sample cannot be captured in a CUDA graph. A counter that is hashed has neither fault: number ``i`` of seed ``s`` is a
function of ``s`` and ``i`` (SplitMix64's finaliser, OOPSLA 2014), and Box and Muller make it normal.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

_GOLDEN, _FIRST, _SECOND = (value - (1 << 64) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_UNGOLDEN = pow(_GOLDEN, -1, 1 << 64)
_UNGOLDEN -= (_UNGOLDEN >> 63) << 64
"""Times the first, modulo 2**64, it is 1."""
_BITS = 24
"""Of a float32 between 0 and 1."""


def seeded_normal(seeds: Int64[Tensor, " b"], horizon: int, action: int) -> Float[Tensor, "b h d"]:
    """Standard normal numbers, the same for the same seed; on the device of ``seeds``."""
    count = horizon * action
    counter = torch.arange(2 * count, device=seeds.device)
    # Hashed twice: seeds and counters that differ by little must not meet.
    # The mixed seed plus the first constant times i + 1, with the constant taken out: a compiler that sees a counter
    # multiplied by it works that out ahead, without wrapping around.
    bits = _mix((_mix(seeds)[:, None] * _UNGOLDEN + counter + 1) * _GOLDEN)
    uniform = (_shifted(bits, 64 - _BITS).float() + 0.5) * 2.0**-_BITS  # never 0, of which there is no logarithm
    radius, angle = uniform[:, :count], uniform[:, count:]
    normal = torch.sqrt(-2 * torch.log(radius)) * torch.cos(2 * math.pi * angle)
    return rearrange(normal, "b (h d) -> b h d", h=horizon)


def _mix(x: Int64[Tensor, "*b"]) -> Int64[Tensor, "*b"]:
    """Every bit of the result depends on every bit of ``x``; products wrap around."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Int64[Tensor, "*b"], by: int) -> Int64[Tensor, "*b"]:
    """To the right, zeros coming in: torch's own shift repeats the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)
