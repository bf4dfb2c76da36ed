"""Kinds and sizes of models: what a recipe says under ``model``. Free of heavy imports, so that help is instant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from vla.core.config import Kinded
from vla.core.errors import ConfigError
from vla.models.auxiliaries.config import AuxiliaryConfig, GroundingConfig, PointingConfig
from vla.models.heads.config import BinsHeadConfig, HeadConfig
from vla.models.readers.config import ImagesConfig, ReaderConfig, StateConfig, TextConfig
from vla.models.text.config import TokenizerConfig, WordsConfig
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.interface import Interface

if TYPE_CHECKING:
    import torch

    from vla.models.model import Model


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Kinded):
    """What every kind of model says of itself; each kind adds its own."""

    what: ClassVar[str] = "kind of model"
    group: ClassVar[str] = "vla.models"

    horizon: int = 8
    """Steps of an action chunk."""
    execute: int = 4
    """Steps of a chunk that are executed before the next inference; evaluators and robots take it from the contract."""
    ensemble: float = 0.0
    """Weight of older chunks that cover a step, per request of age; 0 executes the newest alone. ``vla eval
    --execution`` says which ``execute`` and ``ensemble`` are best for a checkpoint."""
    history: int = 1
    """Observations that the model reads, the present one included."""
    tokenizer: TokenizerConfig = field(default_factory=WordsConfig)
    """How instructions become tokens."""
    text_tokens: int | None = None
    """Longest instruction in tokens; by default fitted to the data's, with room to spare."""

    def __post_init__(self) -> None:
        for name in ("horizon", "execute", "history", "text_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"model.{name}={value} must be at least 1")

        if not 0 <= self.ensemble <= 1:
            raise ConfigError(f"model.ensemble={self.ensemble} must be between 0 and 1")

    @classmethod
    def table(cls) -> Mapping[str, type["ModelConfig"]]:
        """The kinds of this project."""
        return MODELS

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """What is fitted to scaled chunks (w, h, d) beside the weights, as JSON: it travels in the contract."""
        return {}

    def build(self, interface: Interface, fitted: Mapping[str, Any]) -> "Model":
        """The model with fresh weights; ``fitted`` is what `fit` gave."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class UnifiedConfig(ModelConfig):
    """One sequence of all tokens, one transformer: see `vla.models.unified`."""

    kind: str = "unified"
    trunk: TransformerConfig = field(default_factory=TransformerConfig)
    readers: dict[str, ReaderConfig] = field(
        default_factory=lambda: {"text": TextConfig(), "images": ImagesConfig(), "state": StateConfig()}
    )
    """What turns inputs into tokens, in the order of the sequence; each sees what those before it have read."""
    head: HeadConfig = field(default_factory=BinsHeadConfig)
    """What writes actions."""
    auxiliaries: dict[str, AuxiliaryConfig] = field(
        default_factory=lambda: {"grounding": GroundingConfig(), "pointing": PointingConfig()}
    )
    """What else is learned, where the data offers a signal for it; without one, an auxiliary is left out."""

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """See `ModelConfig.fit`."""
        return {"head": self.head.fit(chunks)}

    def build(self, interface: Interface, fitted: Mapping[str, Any]) -> "Model":
        """See `ModelConfig.build`."""
        from vla.models.unified import UnifiedTransformer

        return UnifiedTransformer(self, interface, fitted)


MODELS: dict[str, type[ModelConfig]] = {"unified": UnifiedConfig}
