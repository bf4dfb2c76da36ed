"""Which precision matrix products run in: measured, because nothing else tells.

On processors with AVX-512 BF16 or AMX, bfloat16 products are several times faster than float32; on others PyTorch
emulates them and they are hundreds of times slower, and no flag of the processor says which kernels it will take.
"""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]

_SECONDS = 0.05
_ADVANTAGE = 1.15
"""bfloat16 costs conversions around every product and precision everywhere: below this gain it is not worth it."""


@dataclass(frozen=True, kw_only=True)
class PrecisionRates:
    """What a device reaches, in GFLOP/s."""

    float32: float
    bfloat16: float

    @property
    def best(self) -> Precision:
        """What ``auto`` chooses."""
        return "bfloat16" if self.bfloat16 > _ADVANTAGE * self.float32 else "float32"

    def __str__(self) -> str:
        return f"{self.best}: {self.bfloat16:,.0f} GFLOP/s in bfloat16, {self.float32:,.0f} in float32"


def measure_precision(device: torch.device, *, rows: int = 1024, width: int = 256) -> PrecisionRates:
    """Both rates for products of (``rows``, ``width``) with (``width``, ``width``): the shapes of small policies."""
    return PrecisionRates(
        float32=_rate(device, torch.float32, rows, width), bfloat16=_rate(device, torch.bfloat16, rows, width)
    )


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Products in ``precision``; weights, sums and norms stay in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def _rate(device: torch.device, dtype: torch.dtype, rows: int, width: int) -> float:
    """GFLOP/s of the quickest product of a few hundredths of a second, the first one left out."""
    a, b = torch.ones(rows, width, dtype=dtype, device=device), torch.ones(width, width, dtype=dtype, device=device)
    flops, quickest = 2.0 * rows * width * width, float("inf")
    _seconds(a, b)
    spent = 0.0
    while spent < _SECONDS:
        taken = _seconds(a, b)
        spent, quickest = spent + taken, min(quickest, taken)
    return flops / quickest / 1e9


def _seconds(a: torch.Tensor, b: torch.Tensor) -> float:
    began = time.perf_counter()
    a @ b
    if a.is_cuda:
        torch.cuda.synchronize(a.device)
    return time.perf_counter() - began
