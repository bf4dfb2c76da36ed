"""A vision transformer: patches of a picture, what they make of each other, and one vector for each of them.

What SigLIP, SigLIP 2, DINOv2 and CLIP have in common, and the few things in which they differ, as settings: so weights
of any of them are copied and nothing is wrapped (`vla.models.readers.tower_grafting`).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vla.models.readers.convolutions import Convolutions
from vla.models.readers.tower_config import CELL, TowerConfig
from vla.models.trunk.initialisation import initialise


class Tower(nn.Module):
    """Pictures in, vectors of their patches out, row by row."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.patches = (config.image // config.patch) ** 2
        self.stem = Convolutions(config.channels) if config.channels else None
        inputs = config.channels * (config.patch // CELL) ** 2 if config.channels else 3 * config.patch**2
        self.project = nn.Linear(inputs, width, bias=config.patch_bias)
        self.whole = nn.Embedding(1, width) if config.whole else None
        self.position = nn.Embedding(self.patches + config.whole, width)
        self.norm_first = _norm(config) if config.norm_first else None
        self.blocks = nn.ModuleList(TowerBlock(config) for _ in range(config.layers))
        self.norm_last = _norm(config) if config.norm_last else None

    def forward(self, images: UInt8[Tensor, "b y x 3"]) -> Float[Tensor, "b p e"]:
        """Pictures of any size: they are stretched to that of the tower."""
        return self.tokens(images)[:, -self.patches :]

    def see(self, images: UInt8[Tensor, "b y x 3"]) -> tuple[Float[Tensor, "b p e"], Float[Tensor, "b f c"]]:
        """The same, and the finest features that know what is near them: of the convolutions, or else the same."""
        cells = self._cells(images)
        seen = self._tokens(cells)[:, -self.patches :]
        return seen, seen if self.stem is None else rearrange(cells, "b c y x -> b (y x) c")

    def tokens(self, images: UInt8[Tensor, "b y x 3"]) -> Float[Tensor, "b l e"]:
        """The same behind the token of the whole picture, where there is one."""
        return self._tokens(self._cells(images))

    def _tokens(self, cells: Float[Tensor, "b n rows columns"]) -> Float[Tensor, "b l e"]:
        side = round(self.patches**0.5)
        x = self.project(rearrange(cells, "b c (r y) (k x) -> b (r k) (y x c)", r=side, k=side))  # (b, p, e)
        if self.whole is not None:
            x = torch.cat([self.whole.weight.expand(len(x), 1, -1), x], dim=1)
        x = x + self.position.weight
        if self.norm_first is not None:
            x = self.norm_first(x)
        for block in self.blocks:
            x = block(x)
        if self.norm_last is not None:
            x = self.norm_last(x)
        seen: Tensor = x
        return seen

    def _cells(self, images: UInt8[Tensor, "b y x 3"]) -> Float[Tensor, "b n rows columns"]:
        """What patches are made of: pixels, or what convolutions make of them."""
        config = self.config
        seen = pixels(images, config.image, config.mean, config.std, self.project.weight.dtype)
        return seen if self.stem is None else self.stem(seen)


class TowerBlock(nn.Module):
    """Attention of all to all, then an MLP, each behind a norm, scaled where the tower does so, and added."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.hidden
        self.heads, self.activation = config.heads, config.activation
        self.norm_attention, self.norm_mlp = _norm(config), _norm(config)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.gate = nn.Linear(width, hidden) if config.activation == "swiglu" else None
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.scale_attention, self.scale_mlp = (LayerScale(width) if config.scaled else None for _ in range(2))

    def forward(self, x: Float[Tensor, "b p e"]) -> Float[Tensor, "b p e"]:
        """The same patches, in the light of each other."""
        qkv = rearrange(self.qkv(self.norm_attention(x)), "b p (k h c) -> k b h p c", k=3, h=self.heads)
        read = self.out(rearrange(F.scaled_dot_product_attention(*qkv), "b h p c -> b p (h c)"))
        x = x + (read if self.scale_attention is None else self.scale_attention(read))
        made: Tensor = self.down(self._hidden(self.norm_mlp(x)))
        return x + (made if self.scale_mlp is None else self.scale_mlp(made))

    def _hidden(self, x: Float[Tensor, "b p e"]) -> Float[Tensor, "b p m"]:
        up: Tensor = self.up(x)
        if self.gate is not None:
            return F.silu(self.gate(x)) * up
        return activate(up, self.activation)


class LayerScale(nn.Module):
    """A factor for each channel (arXiv 2103.17239)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        initialise(self)

    def forward(self, x: Float[Tensor, "b p e"]) -> Float[Tensor, "b p e"]:
        """Scaled."""
        return x * self.weight


def pixels(
    images: UInt8[Tensor, "b y x 3"], side: int, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype
) -> Float[Tensor, "b 3 r k"]:
    """Pictures stretched to squares, on the scale that a tower was trained on."""
    found = rearrange(images, "b y x c -> b c y x").to(dtype) / 255
    if found.shape[2:] != (side, side):
        found = F.interpolate(found, (side, side), mode="bilinear", antialias=True)
    centre, spread = (found.new_tensor(values)[:, None, None] for values in (mean, std))
    return (found - centre) / spread


def activate(x: Tensor, activation: str) -> Tensor:
    """One of the activations without a gate, by name."""
    if activation == "quick_gelu":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


def _norm(config: TowerConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.width, eps=config.norm_eps)
