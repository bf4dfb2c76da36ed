"""The settings of policies that people compare with. Free of heavy imports, so that help is instant."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vla.core.config import require_at_least_one
from vla.core.errors import ConfigError
from vla.models.config import ModelConfig
from vla.models.trunk.interface import Interface

if TYPE_CHECKING:
    import torch

    from vla.models.model import Model


@dataclass(frozen=True, kw_only=True)
class ActConfig(ModelConfig):
    """Action Chunking with Transformers (arXiv 2304.13705), told what to do: see `vla.models.baselines.act`."""

    kind: str = "act"
    horizon: int = 16
    execute: int = 8
    width: int = 128
    encoder_layers: int = 4
    decoder_layers: int = 1
    """One: the authors' code uses the first of its seven."""
    heads: int = 4
    channels: tuple[int, ...] = (32, 64, 128)
    """Of each stage of the camera's convolutions; every stage halves the sides."""
    style: int = 32
    """Numbers that say in which way a chunk was done, of the ways there were; drawn while training, 0 when it acts."""
    kl_weight: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_one(self, "width", "encoder_layers", "decoder_layers", "heads", "style", where="model.")
        _check_channels(self.channels)
        if self.width % self.heads:
            raise ConfigError(f"model.width={self.width} must be a multiple of model.heads={self.heads}")
        if self.kl_weight < 0:
            raise ConfigError(f"model.kl_weight={self.kl_weight} must be at least 0")

    def build(self, interface: Interface, fitted: Mapping[str, Any]) -> "Model":
        """See `ModelConfig.build`."""
        from vla.models.baselines.act import Act

        return Act(self, interface)


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(ModelConfig):
    """Diffusion Policy (arXiv 2303.04137), told what to do: see `vla.models.baselines.diffusion`."""

    kind: str = "diffusion"
    horizon: int = 16
    execute: int = 8
    width: int = 128
    """Of the instruction and of time, as vectors."""
    channels: tuple[int, ...] = (32, 64, 64)
    """Of each stage of the camera's convolutions; every stage halves the sides."""
    points: int = 32
    """Spatial softmax points of each camera."""
    levels: tuple[int, ...] = (64, 128, 256)
    """Channels of the U-Net over time; each level after the first halves the steps."""
    train_steps: int = 100
    """Noise levels while training."""
    steps: int = 10
    """Of DDIM, each one pass of the U-Net (arXiv 2010.02502)."""
    passes: int = 4
    """Noised chunks for each observation that is read while training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_one(self, "width", "points", "train_steps", "steps", "passes", where="model.")
        _check_channels(self.channels)
        _check_channels(self.levels, name="levels")
        if self.width % 2:
            raise ConfigError(f"model.width={self.width} must be even: sines and cosines of time")
        if self.steps > self.train_steps:
            raise ConfigError(f"model.steps={self.steps} must be at most model.train_steps={self.train_steps}")
        if any(channels % 8 for channels in self.levels):
            raise ConfigError(f"model.levels={self.levels} must be multiples of 8, the groups of its norms")
        if self.horizon % (smallest := 2 ** (len(self.levels) - 1)):
            raise ConfigError(
                f"model.horizon={self.horizon} must be a multiple of {smallest}: each of the {len(self.levels)} levels "
                "after the first halves it"
            )

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """The largest command there is, beyond which what is drawn is cut off while noise is taken away."""
        return {"reach": float(chunks.abs().max())}

    def build(self, interface: Interface, fitted: Mapping[str, Any]) -> "Model":
        """See `ModelConfig.build`."""
        from vla.models.baselines.diffusion import Diffusion

        return Diffusion(self, interface, fitted)


def _check_channels(channels: tuple[int, ...], name: str = "channels") -> None:
    if not channels or min(channels) < 1:
        raise ConfigError(f"model.{name}={channels} must be one number of at least 1 for each stage")
