"""Chunks as robots move: smooth, within [-1, 1], each joint in its own way."""

import torch
from torch import Tensor

SHAPE = (8, 3)


def smooth(count: int, seed: int = 0, shape: tuple[int, int] = SHAPE) -> Tensor:
    """Random offsets, slopes and waves."""
    h, d = shape
    random = torch.Generator().manual_seed(seed)
    time = torch.linspace(0, 1, h)[:, None]
    offset, slope, wave = (torch.rand(count, 1, d, generator=random) * 2 - 1 for _ in range(3))
    return 0.5 * offset + 0.3 * slope * time + 0.15 * wave * torch.sin(5 * time)


def everything(chunks: Tensor) -> Tensor:
    """All of it is known."""
    return torch.ones_like(chunks, dtype=torch.bool)
