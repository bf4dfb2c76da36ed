"""The settings of a vision transformer. Free of heavy imports."""

from dataclasses import dataclass
from typing import Literal

from vla.core.config import require_at_least_one
from vla.core.errors import ConfigError

CELL = 4
"""Pixels on each side of what `vla.models.readers.convolutions` makes one cell of."""


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """A vision transformer; see `vla.models.readers.tower`."""

    width: int
    layers: int
    heads: int
    hidden: int
    """Units of the MLP."""
    patch: int
    """Side of a patch in pixels."""
    image: int
    """Side of a picture in pixels."""
    channels: int = 0
    """Of the convolutions that make cells of `CELL` pixels, of which patches are made then; 0: patches of pixels."""
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "swiglu"] = "gelu_tanh"
    norm_eps: float = 1e-6
    whole: bool = False
    """A token for the whole picture stands before those of its patches."""
    patch_bias: bool = True
    """The projection of patches has a bias."""
    norm_first: bool = False
    """Patches are normed before the first block."""
    norm_last: bool = True
    """They are normed behind the last one."""
    scaled: bool = False
    """What is added has a factor for each channel (arXiv 2103.17239)."""
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    """Of each colour of the pictures that it was trained on, from 0 to 1."""
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        names = ("width", "layers", "heads", "hidden", "patch", "image")
        require_at_least_one(self, *names, where="model.readers: tower.")
        if self.channels < 0 or (self.channels and self.patch % CELL):
            raise ConfigError(
                f"model.readers: tower.channels={self.channels}, patch={self.patch}: expected at least 0, and of "
                f"convolutions a patch of whole cells of {CELL} pixels; channels=0 makes patches of pixels"
            )
        for many, of in (("width", "heads"), ("image", "patch")):
            if (value := getattr(self, many)) % (parts := getattr(self, of)):
                raise ConfigError(f"model.readers: tower.{many}={value} must be a multiple of {of}={parts}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != 3 or (name == "std" and min(values) <= 0):
                raise ConfigError(f"model.readers: tower.{name}: expected three numbers, got {list(values)}")
