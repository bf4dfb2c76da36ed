"""Heads by kind: what writes actions. Free of heavy imports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vla.core.config import Kinded, require_at_least_one
from vla.core.errors import ConfigError
from vla.models.codecs.config import BinsConfig, CodecConfig
from vla.models.trunk.config import TransformerConfig
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

    def build(self, interface: Interface, trunk: TransformerConfig, fitted: Mapping[str, Any]) -> "Head":
        """The head behind a ``trunk`` of these sizes; ``fitted`` is what `fit` gave."""
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

    def build(self, interface: Interface, trunk: TransformerConfig, fitted: Mapping[str, Any]) -> "Head":
        """See `HeadConfig.build`."""
        from vla.models.heads.bins import BinsHead

        return BinsHead(self, interface, trunk.width, fitted)


@dataclass(frozen=True, kw_only=True)
class TokensHeadConfig(HeadConfig):
    """Tokens of a codec, one after the other with a key-value cache; the codec's grammar is obeyed."""

    kind: str = "tokens"
    codec: CodecConfig = field(default_factory=BinsConfig)

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """That of the codec."""
        return self.codec.fit(chunks)

    def build(self, interface: Interface, trunk: TransformerConfig, fitted: Mapping[str, Any]) -> "Head":
        """See `HeadConfig.build`."""
        from vla.models.heads.tokens import TokensHead

        return TokensHead(self.codec.build(fitted), trunk.width)


@dataclass(frozen=True, kw_only=True)
class MaskedHeadConfig(HeadConfig):
    """Tokens of a codec, masked and filled in a few rounds, the surest first (arXiv 2508.20072)."""

    kind: str = "masked"
    codec: CodecConfig = field(default_factory=BinsConfig)
    """One whose grammar depends on the place of a token alone."""
    rounds: int = 4
    """Passes of decoding; 1 is parallel."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "rounds", where="model.head.")

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """That of the codec."""
        return self.codec.fit(chunks)

    def build(self, interface: Interface, trunk: TransformerConfig, fitted: Mapping[str, Any]) -> "Head":
        """See `HeadConfig.build`."""
        from vla.models.heads.masked import MaskedHead

        return MaskedHead(self.codec.build(fitted), self.rounds, trunk.width)


@dataclass(frozen=True, kw_only=True)
class L1HeadConfig(HeadConfig):
    """All actions in one pass as numbers, taught by the absolute error (arXiv 2502.19645)."""

    kind: str = "l1"

    def build(self, interface: Interface, trunk: TransformerConfig, fitted: Mapping[str, Any]) -> "Head":
        """See `HeadConfig.build`."""
        from vla.models.heads.l1 import L1Head

        return L1Head(interface, trunk.width)


@dataclass(frozen=True, kw_only=True)
class MipHeadConfig(HeadConfig):
    """Two passes of regression, the second from a noised chunk (MIP, arXiv 2512.01809)."""

    kind: str = "mip"
    known: float = 0.9
    """t*: the share of the chunk in what the second pass begins from; the rest is noise."""

    def __post_init__(self) -> None:
        if not 0 < self.known < 1:
            raise ConfigError(f"model.head.known={self.known} must be above 0 and below 1")

    def build(self, interface: Interface, trunk: TransformerConfig, fitted: Mapping[str, Any]) -> "Head":
        """See `HeadConfig.build`."""
        from vla.models.heads.mip import MipHead

        return MipHead(self, interface, trunk.width)


@dataclass(frozen=True, kw_only=True)
class FlowHeadConfig(HeadConfig):
    """Flow matching by an expert with weights of its own, which reads the trunk layer by layer (π0, 2410.24164)."""

    kind: str = "flow"
    width: int | None = None
    """Of the expert, which has the trunk's layers and heads; by default half of the trunk's, rounded up to even."""
    mlp_ratio: float = 4.0
    """Of the expert."""
    steps: int = 10
    """Of Euler's method from noise to a chunk."""
    passes: int = 4
    """Noised chunks that are learned from each time the inputs are read."""
    state: bool = False
    """The expert has a token with the present state in front of the actions, as π0 has."""
    insulate: bool = False
    """The flow's gradients stop at the expert, and the teacher alone teaches the trunk (arXiv 2505.23705)."""
    teacher: HeadConfig | None = None
    """A head that teaches the trunk and never acts, for example {kind: bins} or {kind: tokens, codec: {kind: fast}}."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "steps", "passes", where="model.head.")
        if self.width is not None and (self.width < 2 or self.width % 2):
            raise ConfigError(f"model.head.width={self.width} must be even, for sines and cosines of the time")
        if self.insulate and self.teacher is None:
            raise ConfigError(
                "model.head.insulate: without a teacher nothing would teach the trunk how to act; "
                "add one, for example teacher: {kind: bins}"
            )

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """That of the teacher."""
        return {} if self.teacher is None else {"teacher": self.teacher.fit(chunks)}

    def build(self, interface: Interface, trunk: TransformerConfig, fitted: Mapping[str, Any]) -> "Head":
        """See `HeadConfig.build`."""
        from vla.models.heads.flow import FlowHead

        teacher = None
        if self.teacher is not None:
            teacher = self.teacher.build(interface, trunk, fitted.get("teacher", {}))
        return FlowHead(self, interface, trunk, teacher)


HEADS: dict[str, type[HeadConfig]] = {
    "bins": BinsHeadConfig,
    "tokens": TokensHeadConfig,
    "masked": MaskedHeadConfig,
    "l1": L1HeadConfig,
    "mip": MipHeadConfig,
    "flow": FlowHeadConfig,
}
