"""The settings of the small language model. Free of heavy imports, so that help is instant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vla.models.config import ModelConfig
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.interface import Interface

if TYPE_CHECKING:
    from vla.models.model import Model


@dataclass(frozen=True, kw_only=True)
class LanguageConfig(ModelConfig):
    """A causal language model of a dataset's own text, for others to begin with: see `vla.models.language.model`."""

    kind: str = "language"
    trunk: TransformerConfig = field(default_factory=TransformerConfig)

    @property
    def written(self) -> frozenset[str]:
        """See `ModelConfig.written`."""
        return frozenset({"answer"})

    def build(self, interface: Interface, fitted: Mapping[str, Any]) -> "Model":
        """See `ModelConfig.build`."""
        from vla.models.language.model import LanguageModel

        return LanguageModel(self, interface)
