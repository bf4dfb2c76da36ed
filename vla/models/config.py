"""Sizes and kinds of models: what a recipe says under ``model``. Free of heavy imports, so that help is instant."""

from dataclasses import dataclass, field
from typing import Literal

from vla.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Size of the trunk."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    mlp_ratio: float = 2.0


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Size of the image tokenizer; each camera has its own weights."""

    channels: int = 32
    tokens: int = 8
    """Tokens of a camera."""


@dataclass(frozen=True, kw_only=True)
class UnifiedConfig:
    """Size and kind of the unified transformer."""

    trunk: TransformerConfig = field(default_factory=TransformerConfig)
    vision: VisionConfig = field(default_factory=VisionConfig)
    text_tokens: int = 12
    """Longest instruction, in tokens."""
    horizon: int = 8
    """Steps of an action chunk."""
    execute: int = 4
    """Steps of a chunk that are executed before the next inference; evaluators and robots take it from the contract."""
    action_bins: int = 128
    grounding_bins: int = 64
    label_sigma: float = 1.0
    """Deviation of the soft targets, in bins."""
    layout: Literal["step", "joint"] = "step"
    decoding: Literal["parallel", "autoregressive"] = "parallel"
    state_dropout: float = 0.3
    """Share of samples that are trained without proprioception, so that objects are found by looking."""
    grounding_weight: float = 1.0
    """Weight of the grounding token's loss beside the action loss."""
    pointing_weight: float = 1.0
    """Weight of the pointing maps' loss."""

    def __post_init__(self) -> None:
        sizes = {"trunk.width": self.trunk.width, "trunk.layers": self.trunk.layers, "trunk.heads": self.trunk.heads}
        sizes |= {"vision.channels": self.vision.channels, "vision.tokens": self.vision.tokens}
        for name, size in sizes.items():
            if size < 1:
                raise ConfigError(f"model.{name}={size} must be at least 1")
        if self.trunk.width % self.trunk.heads:
            raise ConfigError(
                f"model.trunk.width={self.trunk.width} must be a multiple of model.trunk.heads={self.trunk.heads}"
            )
        for name, least in (
            ("text_tokens", 1),
            ("horizon", 1),
            ("execute", 1),
            ("action_bins", 2),
            ("grounding_bins", 2),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"model.{name}={getattr(self, name)} must be at least {least}")
        if not 0 <= self.state_dropout <= 1:
            raise ConfigError(f"model.state_dropout={self.state_dropout} must be between 0 and 1")
