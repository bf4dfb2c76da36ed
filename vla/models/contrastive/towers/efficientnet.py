"""EfficientNet (arXiv 1905.11946): blocks that widen, look at each channel by itself, weigh channels, and narrow again.

ALIGN's image tower, and the Lite0 that a package ships. Sizes are B0's times factors of width and depth. What is
stretched over an even number of pixels is padded as TensorFlow does, one more behind than before; nothing is dropped at
random in training, where the paper leaves out whole blocks.
"""

from dataclasses import dataclass
from math import ceil

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from vla.models.contrastive.towers.config import EfficientNetConfig
from vla.models.contrastive.towers.tower import ImageTower
from vla.models.readers.tower import pixels

_STEM, _STEP = 32, 8
_CELL = 32
"""Pixels that become one: five strides of two."""


@dataclass(frozen=True)
class Stage:
    """Blocks that are alike; only the first has the stride."""

    kernel: int
    channels: int
    stride: int
    blocks: int
    expand: int
    """By how much they widen."""


STAGES = (
    Stage(3, 16, 1, 1, 1),
    Stage(3, 24, 2, 2, 6),
    Stage(5, 40, 2, 2, 6),
    Stage(3, 80, 2, 3, 6),
    Stage(5, 112, 1, 3, 6),
    Stage(5, 192, 2, 4, 6),
    Stage(3, 320, 1, 1, 6),
)
"""Of B0: table 1 of the paper."""


class EfficientNet(ImageTower):
    """Pools the mean of the last features, or sets them side by side."""

    def __init__(self, config: EfficientNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = rounded(_STEM * config.widths)
        self.stem = Unit(3, channels, config, kernel=3, stride=2)
        self.blocks = nn.ModuleList()
        for stage in STAGES:
            for i in range(ceil(stage.blocks * config.depths)):
                out = rounded(stage.channels * config.widths)
                self.blocks.append(MobileBlock(channels, out, config, stage, first=i == 0))
                channels = out
        self.head = Unit(channels, config.head, config) if config.head else None
        self.width = (config.head or channels) * (ceil(config.image / _CELL) ** 2 if config.cells else 1)

    def forward(self, images: UInt8[Tensor, "b y x 3"]) -> Float[Tensor, "b e"]:
        """See `ImageTower.forward`."""
        found = self.features(images)
        cells: Tensor = rearrange(found, "b e r k -> b (r k) e")
        return cells.flatten(start_dim=1) if self.config.cells else cells.mean(dim=1)

    def units(self) -> list[nn.Module]:
        """See `ImageTower.units`."""
        return list(self.blocks)

    def features(self, images: UInt8[Tensor, "b y x 3"]) -> Float[Tensor, "b e r k"]:
        """The vector of each cell, `_CELL` pixels wide."""
        config = self.config
        x: Tensor = self.stem(pixels(images, config.image, config.mean, config.std, self.stem.conv.weight.dtype))
        for block in self.blocks:
            x = block(x)
        if self.head is not None:
            x = self.head(x)
        return x


class MobileBlock(nn.Module):
    """Wider, over each channel, weighed, narrower; added to what came, but in the first of a stage."""

    def __init__(self, channels: int, out: int, config: EfficientNetConfig, stage: Stage, *, first: bool) -> None:
        super().__init__()
        wide, stride = channels * stage.expand, stage.stride if first else 1
        self.expand = Unit(channels, wide, config) if stage.expand != 1 else None
        self.each = Unit(wide, wide, config, kernel=stage.kernel, stride=stride, each=True)
        self.weigh = Weigh(wide, max(1, int(channels * config.squeeze)), config) if config.squeeze else None
        self.project = Unit(wide, out, config, activated=False)
        self._added = not first

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d r k"]:
        """The features of the next block."""
        found: Tensor = x if self.expand is None else self.expand(x)
        found = self.each(found)
        if self.weigh is not None:
            found = self.weigh(found)
        found = self.project(found)
        return x + found if self._added else found


class Unit(nn.Module):
    """A convolution without bias, a batch norm, and mostly an activation."""

    def __init__(
        self,
        channels: int,
        out: int,
        config: EfficientNetConfig,
        *,
        kernel: int = 1,
        stride: int = 1,
        each: bool = False,
        activated: bool = True,
    ) -> None:
        super().__init__()
        around = kernel - stride  # so that a side is divided by the stride
        self._padding = around // 2, around - around // 2
        self._activation = config.activation if activated else None
        self.conv = nn.Conv2d(channels, out, kernel, stride, groups=channels if each else 1, bias=False)
        self.norm = nn.BatchNorm2d(out, eps=config.norm_eps, momentum=0.01)  # TensorFlow's 0.99 counts the other way

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d r k"]:
        """The features of the next unit."""
        found: Tensor = self.norm(self.conv(F.pad(x, 2 * self._padding)))
        return found if self._activation is None else activate(found, self._activation)


class Weigh(nn.Module):
    """How much each channel counts, from the means of all (squeeze and excitation, arXiv 1709.01507)."""

    def __init__(self, channels: int, squeezed: int, config: EfficientNetConfig) -> None:
        super().__init__()
        self._activation = config.activation
        self.squeeze, self.excite = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """The same, weighed."""
        means = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(activate(self.squeeze(means), self._activation)))


def activate(x: Tensor, activation: str) -> Tensor:
    """By name."""
    return F.silu(x) if activation == "swish" else F.relu6(x)


def rounded(channels: float) -> int:
    """To a multiple of 8, never down by more than a tenth."""
    near = max(_STEP, int(channels + _STEP / 2) // _STEP * _STEP)
    return near + _STEP if near < 0.9 * channels else near
