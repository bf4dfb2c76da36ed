"""Heads by kind: what writes actions. Free of heavy imports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vla.core.config import Kinded
from vla.core.errors import ConfigError
from vla.models.codecs.config import BinsConfig, CodecConfig
from vla.models.trunk.interface import Interface

if TYPE_CHECKING:
    import torch

    from vla.models.heads.head import Head


@dataclass(frozen=True, kw_only=True)
class HeadConfig(Kinded):
    """What writes actions; see `vla.models.heads.head.Head`."""

    what: ClassVar[str] = "kind of head"
    group: ClassVar[str] = "vla.heads"

    @classmethod
    def table(cls) -> Mapping[str, type["HeadConfig"]]:
        """The kinds of this project."""
        return HEADS

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """What the head takes from scaled chunks (w, h, d) beside its weights, as JSON."""
        return {}

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Head":
        """The head on hidden states of ``width``; ``fitted`` is what `fit` gave."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class BinsHeadConfig(HeadConfig):
    """All actions in one pass, as distributions over each joint's bins (arXiv 2502.19645)."""

    kind: str = "bins"
    bins: int = 128
    label_sigma: float = 1.0
    """Deviation of the soft targets, in bins."""
    layout: Literal["step", "joint"] = "step"
    """One token for each step, which writes all joints, or one for each joint of each step."""

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise ConfigError(f"model.head.bins={self.bins} must be at least 2")
        if not self.label_sigma > 0:
            raise ConfigError(f"model.head.label_sigma={self.label_sigma} must be positive")

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """Limits of the bins."""
        return BinsConfig(bins=self.bins).fit(chunks)

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Head":
        """See `HeadConfig.build`."""
        from vla.models.heads.bins import BinsHead

        return BinsHead(self, interface, width, fitted)


@dataclass(frozen=True, kw_only=True)
class TokensHeadConfig(HeadConfig):
    """Tokens of a codec, one after the other with a key-value cache; the codec's grammar is obeyed."""

    kind: str = "tokens"
    codec: CodecConfig = field(default_factory=BinsConfig)

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """That of the codec."""
        return self.codec.fit(chunks)

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Head":
        """See `HeadConfig.build`."""
        from vla.models.heads.tokens import TokensHead

        return TokensHead(self.codec.build(fitted), width)


HEADS: dict[str, type[HeadConfig]] = {"bins": BinsHeadConfig, "tokens": TokensHeadConfig}
