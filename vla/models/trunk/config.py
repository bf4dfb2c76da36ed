"""Sizes and kinds of transformers. Free of heavy imports, so that help is instant."""

from dataclasses import dataclass
from typing import Literal

from vla.core.config import require_at_least_one
from vla.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """A transformer. The defaults are small and plain: learned positions in each part, and an MLP without a gate.

    What newer language models are made of is said in a line:
    ``trunk: {rope: 10000.0, gated: true, qk_norm: true, kv_heads: 2}``.
    """

    width: int = 128
    layers: int = 4
    heads: int = 4
    mlp_ratio: float = 2.0
    """Hidden units of the MLP, as a multiple of the width."""
    kv_heads: int | None = None
    """Heads of keys and values, each shared by as many of the queries (arXiv 2305.13245); by default one for each."""
    head_dim: int | None = None
    """Of one head; by default the heads share the width."""
    gated: bool = False
    """An MLP with a gate (arXiv 2002.05202): a third matrix."""
    activation: Literal["gelu_tanh", "silu"] = "gelu_tanh"
    """Of the MLP, or of its gate."""
    qk_norm: bool = False
    """Queries and keys are normed, head by head, so that no score grows without bound (arXiv 2302.05442)."""
    rope: float | None = None
    """Rotary positions (arXiv 2104.09864), and the base of their wave lengths; by default there are none."""
    rope_sections: tuple[int, ...] = ()
    """How many pairs of channels turn with time, row and column (arXiv 2409.12191); by default all do with time."""
    norm_eps: float | None = None
    """Of all norms; by default the smallest step of the precision."""
    norm_offset: bool = False
    """Norms multiply by 1 + weight, as Gemma's do, so that decay pulls towards 1."""
    embedding_scale: float = 1.0
    """What embeddings of tokens are multiplied by where they are read; Gemma's is the root of the width."""
    attention: Literal["auto", "dense", "flex"] = "auto"
    """What computes attention: two products with a mask, or FlexAttention, which skips what the mask forbids and
    forgets what it can compute again; auto takes it on a GPU from lengths on at which there is something to skip."""
    recompute: bool = False
    """Forget what happens inside of blocks and compute it again for the gradients: less memory, a third more time."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "width", "layers", "heads", "kv_heads", "head_dim", where="model.trunk.")
        if self.head_dim is None and self.width % self.heads:
            raise ConfigError(f"model.trunk.width={self.width} must be a multiple of model.trunk.heads={self.heads}")
        if self.heads % self.keys:
            raise ConfigError(f"model.trunk.heads={self.heads} must be a multiple of model.trunk.kv_heads={self.keys}")
        for name in ("rope", "norm_eps", "embedding_scale", "mlp_ratio"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"model.trunk.{name}={value} must be positive")
        if self.rope is not None and self.size % 2:
            raise ConfigError(
                f"model.trunk.rope turns pairs of channels, and a head has {self.size}: make head_dim even"
            )
        sections = self.rope_sections
        if sections and (self.rope is None or len(sections) != 3 or sum(sections) != self.size // 2):
            raise ConfigError(
                f"model.trunk.rope_sections={list(sections)} must be three numbers (time, row, column) whose sum is "
                f"{self.size // 2}, half of a head's channels, and rope must be set"
            )

    @property
    def size(self) -> int:
        """Channels of a head."""
        return self.head_dim or self.width // self.heads

    @property
    def keys(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def hidden(self) -> int:
        """Hidden units of the MLP."""
        return int(self.width * self.mlp_ratio + 1e-6)  # the ratio of two whole numbers gives them back
