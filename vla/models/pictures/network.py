"""The convolutional encoder and decoder of VQ image codecs, as in LlamaGen and Janus (arXiv 2406.06525, 2410.13848).

Levels of residual blocks, each after the first at half the side; attention at the last and between the two. Parts are
called as in Janus, so that its tensors have their places here by name. One thing is added: with ``stem`` 2 or more the
network reads and writes squares of so many pixels as one cell, which saves most of the work of small presets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of both networks."""

    channels: int
    multipliers: tuple[int, ...]
    """Channels of each level, as multiples of ``channels``."""
    blocks: int
    """Of each level of the encoder; the decoder has one more."""
    latent: int
    """Channels between the encoder and the quantiser."""
    groups: int
    """Of the norms."""
    stem: int
    """Side in pixels of a cell that the first level reads; 1 is as in Janus."""


class Encoder(nn.Module):
    """Pictures in [-1, 1] to cells."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.stem = nn.PixelUnshuffle(shape.stem)
        widths = [shape.channels * m for m in shape.multipliers]
        self.conv_in = _conv(3 * shape.stem**2, shape.channels)
        self.down = nn.ModuleList()
        before = shape.channels
        for width in widths:
            last = len(self.down) == len(widths) - 1
            level = _Level(before, [width] * shape.blocks, shape.groups, attention=last)
            if not last:
                level.downsample = _Halve(width)
            self.down.append(level)
            before = width
        self.mid = _Middle(before, shape.groups)
        self.norm_out = _norm(before, shape.groups)
        self.conv_out = _conv(before, shape.latent)

    def forward(self, x: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b e v u"]:
        """A cell for each square of pixels."""
        x = self.conv_in(self.stem(x))
        for level in self.down:
            x = level(x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(x))))
        return out


class Decoder(nn.Module):
    """Cells to pictures of about [-1, 1]: the encoder in mirror order."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        widths = [shape.channels * m for m in shape.multipliers]
        before = widths[-1]
        self.conv_in = _conv(shape.latent, before)
        self.mid = _Middle(before, shape.groups)
        self.up = nn.ModuleList()
        for width in reversed(widths):
            level = _Level(before, [width] * (shape.blocks + 1), shape.groups, attention=not self.up)
            if len(self.up) < len(widths) - 1:
                level.upsample = _Double(width)
            self.up.append(level)
            before = width
        self.norm_out = _norm(before, shape.groups)
        self.conv_out = _conv(before, 3 * shape.stem**2)
        self.stem = nn.PixelShuffle(shape.stem)

    def forward(self, z: Float[Tensor, "b e v u"]) -> Float[Tensor, "b 3 y x"]:
        """A square of pixels for each cell."""
        x = self.mid(self.conv_in(z))
        for level in self.up:
            x = level(x)
        out: Tensor = self.stem(self.conv_out(F.silu(self.norm_out(x))))
        return out


class _Level(nn.Module):
    """Residual blocks at one side, each followed by attention at the smallest, and the way to the next side."""

    def __init__(self, before: int, widths: Sequence[int], groups: int, *, attention: bool) -> None:
        super().__init__()
        pairs = zip([before, *widths], widths, strict=False)
        self.block = nn.ModuleList(_Residual(one, other, groups) for one, other in pairs)
        self.attn = nn.ModuleList(_Attention(width, groups) for width in widths if attention)
        self.downsample: nn.Module = nn.Identity()
        self.upsample: nn.Module = nn.Identity()

    def forward(self, x: Float[Tensor, "b c v u"]) -> Float[Tensor, "b d w t"]:
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        out: Tensor = self.upsample(self.downsample(x))
        return out


class _Middle(nn.Module):
    """Attention between two residual blocks."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.block_1 = _Residual(width, width, groups)
        self.attn_1 = _Attention(width, groups)
        self.block_2 = _Residual(width, width, groups)

    def forward(self, x: Float[Tensor, "b c v u"]) -> Float[Tensor, "b c v u"]:
        out: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return out


class _Residual(nn.Module):
    """Two convolutions beside what they change."""

    def __init__(self, before: int, width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(before, groups)
        self.conv1 = _conv(before, width)
        self.norm2 = _norm(width, groups)
        self.conv2 = _conv(width, width)
        self.nin_shortcut = nn.Conv2d(before, width, 1) if before != width else nn.Identity()

    def forward(self, x: Float[Tensor, "b c v u"]) -> Float[Tensor, "b d v u"]:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        out: Tensor = self.nin_shortcut(x) + y
        return out


class _Attention(nn.Module):
    """Every cell asks all others."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = _norm(width, groups)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Float[Tensor, "b c v u"]) -> Float[Tensor, "b c v u"]:
        y = self.norm(x)
        q, k, v = (rearrange(part(y), "b c v u -> b 1 (v u) c") for part in (self.q, self.k, self.v))
        found = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = x + self.proj_out(rearrange(found, "b 1 (v u) c -> b c v u", v=x.shape[2]))
        return out


class _Halve(nn.Module):
    """Half the side; only the right and the lower border are padded."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Float[Tensor, "b c v u"]) -> Float[Tensor, "b c w t"]:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class _Double(nn.Module):
    """Twice the side, each cell first four times."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = _conv(width, width)

    def forward(self, x: Float[Tensor, "b c v u"]) -> Float[Tensor, "b c w t"]:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


def _conv(before: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(before, width, 3, padding=1)


def _norm(width: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, width, eps=1e-6)


def cells(shape: Shape, image_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of cells of a picture; a side that leaves a rest is reported as (0, 0)."""
    factor = shape.stem * 2 ** (len(shape.multipliers) - 1)
    if any(side % factor for side in image_size):
        return 0, 0
    return image_size[0] // factor, image_size[1] // factor


def scaled_pixels(images: Tensor) -> Float[Tensor, "b 3 y x"]:
    """Bytes (b, y, x, 3) as numbers in [-1, 1], channels first."""
    return rearrange(images, "b y x c -> b c y x").to(torch.float32) / 127.5 - 1.0
