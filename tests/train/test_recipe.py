"""Recipes load, and what cannot work is refused before anything starts."""

from pathlib import Path
from typing import Any

import pytest

from vla.collect.settings import CollectConfig
from vla.core.config import from_dict, load_recipe, to_dict
from vla.core.errors import ConfigError
from vla.datasets.sampling.settings import MixtureConfig
from vla.train.recipe import TrainConfig

RECIPES = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
KINDS = {"mixture.yaml": MixtureConfig}


def test_there_are_recipes() -> None:
    assert "demo.yaml" in [path.name for path in RECIPES]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_recipe_loads_and_survives_json(path: Path) -> None:
    kind: type = KINDS.get(path.name, TrainConfig)
    config = load_recipe(kind, path)
    assert from_dict(kind, to_dict(config), where="json") == config


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_recipe_begins_with_its_command(path: Path) -> None:
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any("Command:" in line for line in comment)
    assert any("Hardware:" in line for line in comment)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ({"engine": "inline", "workers": 2}, "workers"),
        ({"engine": "slurm"}, "engine"),
        ({"batch": 0}, "batch"),
        ({"minutes": -1}, "minutes"),
        ({"steps": 0}, "steps"),
        ({"threads": 0}, "threads"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"constant": 1.0}, "constant"),
        ({"ema": -0.5}, "ema"),
        ({"max_failures": -1}, "max_failures"),
        ({"data": {"approach": 1.0}}, "data.approach"),
        ({"data": {"validation": -0.1}}, "data.validation"),
        ({"data": {"loaders": -1}}, "data.loaders"),
        ({"data": {"pth": "x"}}, "path"),
        ({"optimiser": {"lr": "1e-4"}}, "optimiser.lr"),
        ({"optimiser": {"lr": 0.0}}, "optimiser.lr"),
        ({"optimiser": {"muon_lr": -1.0}}, "optimiser.muon_lr"),
        ({"optimiser": {"betas": [0.9]}}, "optimiser.betas"),
        ({"optimiser": {"betas": [0.9, 1.0]}}, "optimiser.betas"),
        ({"optimiser": {"clip": 0.0}}, "optimiser.clip"),
        ({"model": {"trunk": {"width": 30, "heads": 4}}}, "model.trunk.width"),
        ({"model": {"trunk": {"heads": 0}}}, "model.trunk.heads"),
        ({"model": {"trunk": {"layers": 0}}}, "model.trunk.layers"),
        ({"model": {"vision": {"tokens": 0}}}, "model.vision.tokens"),
        ({"model": {"action_bins": 1}}, "model.action_bins"),
        ({"model": {"execute": 0}}, "model.execute"),
        ({"model": {"state_dropout": 1.5}}, "model.state_dropout"),
        ({"model": {"layout": "flat"}}, "model.layout"),
    ],
    ids=lambda value: str(value),
)
def test_what_cannot_work_is_refused_by_its_key(value: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        from_dict(TrainConfig, value, where="recipe.yaml")


@pytest.mark.parametrize("key", ["episodes", "workers"])
def test_a_collection_needs_something_to_do(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}=0"):
        CollectConfig(**{key: 0})
