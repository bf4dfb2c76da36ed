"""Kinds of models by name: what a recipe says under ``model.kind``."""

from vla.models.config import ModelConfig
from vla.models.kinds.baselines import ActConfig, DiffusionConfig
from vla.models.kinds.language import LanguageConfig
from vla.models.kinds.two_tower import TwoTowerConfig
from vla.models.kinds.unified import UnifiedConfig

MODELS: dict[str, type[ModelConfig]] = {
    "unified": UnifiedConfig,
    "two-tower": TwoTowerConfig,
    "act": ActConfig,
    "diffusion": DiffusionConfig,
    "language": LanguageConfig,
}
