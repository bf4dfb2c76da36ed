"""What every kind of model says of itself in a recipe. Free of heavy imports, so that help is instant."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from vla.core.config import Kinded, require_at_least_one
from vla.core.errors import ConfigError
from vla.models.text.config import TokenizerConfig, WordsConfig
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
        require_at_least_one(self, "horizon", "execute", "history", "text_tokens", where="model.")

        if not 0 <= self.ensemble <= 1:
            raise ConfigError(f"model.ensemble={self.ensemble} must be between 0 and 1")

    @property
    def most_committed(self) -> int:
        """Most steps of a chunk that may be decided already when it is asked for; 0 is a kind that knows of none."""
        return 0

    @property
    def acts(self) -> bool:
        """Whether it is a policy: nothing that does not act is evaluated by what it does."""
        return True

    @property
    def listens(self) -> bool:
        """Whether it reads spoken instructions."""
        return False

    @property
    def written(self) -> frozenset[str]:
        """What is learned to be written beside actions, by its name in `vla.models.trunk.inputs.Targets`."""
        return frozenset()

    @classmethod
    def table(cls) -> Mapping[str, type["ModelConfig"]]:
        """The kinds of this project."""
        from vla.models.kinds.table import MODELS  # the kinds are made of this class

        return MODELS

    def resolved(self) -> "ModelConfig":
        """The same with paths that hold in any folder."""
        return replace(self, tokenizer=self.tokenizer.resolved())

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """What is fitted to scaled chunks (w, h, d) beside the weights, as JSON: it travels in the contract."""
        return {}

    def build(self, interface: Interface, fitted: Mapping[str, Any]) -> "Model":
        """The model with fresh weights; ``fitted`` is what `fit` gave."""
        raise NotImplementedError
