"""Sizes of transformers. Free of heavy imports, so that help is instant."""

from dataclasses import dataclass

from vla.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Size of a transformer."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    mlp_ratio: float = 2.0
    head_dim: int | None = None
    """Width of a head; by default the heads share the width."""

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.trunk.{name}={getattr(self, name)} must be at least 1")
        if self.head_dim is None and self.width % self.heads:
            raise ConfigError(f"model.trunk.width={self.width} must be a multiple of model.trunk.heads={self.heads}")

    @property
    def size(self) -> int:
        """Width of a head."""
        return self.head_dim or self.width // self.heads
