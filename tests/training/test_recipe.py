"""Recipes load, and what cannot work is refused before anything starts."""

from pathlib import Path
from typing import Any

import pytest

from vla.collection.settings import CollectConfig
from vla.core.config import from_dict, load_recipe, to_dict
from vla.core.errors import ConfigError
from vla.datasets.sampling.settings import MixtureConfig
from vla.training.recipe import TrainConfig

RECIPES = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
KINDS = {"mixture.yaml": MixtureConfig}
MIXTURE = {"slots": ["a"], "entries": [{"path": "b"}]}


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
        ({"data": {"strata": {"approach": 1.0}}}, "data.strata"),
        ({"data": {"strata": {"approach": 0.0}}}, "data.strata"),
        ({"data": {"strata": {"approach": 0.5, "other": 0.5}}}, "data.strata"),
        ({"data": {"path": "a", "mixture": MIXTURE}}, "data: path and mixture"),
        ({"data": {"mixture": MIXTURE, "manifest": 3}}, "data: strata, manifest and select belong to path"),
        ({"data": {"mixture": MIXTURE, "strata": {"approach": 0.5}}}, "data: strata, manifest and select"),
        ({"data": {"mixture": MIXTURE, "select": {"success": True}}}, "data: strata, manifest and select"),
        ({"data": {"mixture": {"slots": ["a"], "entries": []}}}, "at least one dataset"),
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
        ({"model": {"readers": {"images": {"tokens": 0}}}}, "model.readers.images.tokens"),
        ({"model": {"head": {"bins": 1}}}, "model.head.bins"),
        ({"model": {"head": {"layout": "flat"}}}, "model.head.layout"),
        ({"model": {"head": {"kind": "token"}}}, "model.head: unknown kind of head 'token': did you mean 'tokens'"),
        ({"model": {"kind": "unifed"}}, "model: unknown kind of model 'unifed': did you mean 'unified'"),
        (
            {"model": {"auxiliaries": {"depth": {}}}},
            "depth needs a kind: grounding, matching, pointing",
        ),
        ({"model": {"execute": 0}}, "model.execute"),
        ({"model": {"readers": {"state": {"dropout": 1.5}}}}, "model.readers.state.dropout"),
        ({"augmentation": {"shift": 1.0}}, "augmentation.shift"),
        ({"augmentation": {"contrast": -0.1}}, "augmentation.contrast"),
        ({"precision": "float16"}, "precision"),
    ],
    ids=lambda value: str(value),
)
def test_what_cannot_work_is_refused_by_its_key(value: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        from_dict(TrainConfig, value, where="recipe.yaml")


def test_every_dataset_of_a_recipe_has_a_version() -> None:
    entries = [{"path": "a", "manifest": 3}, {"path": "b"}]
    for data, versions in (
        ({}, []),
        ({"path": "a"}, [("a", None)]),
        ({"path": "a", "manifest": 2}, [("a", 2)]),
        ({"mixture": {"slots": [], "entries": entries}}, [("a", 3), ("b", None)]),
    ):
        assert from_dict(TrainConfig, {"data": data}, where="here").data.versions == versions


def test_paths_hold_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for data in ({"path": "a"}, {"mixture": {"slots": [], "entries": [{"path": "a"}, {"path": "b/c"}]}}):
        config = from_dict(TrainConfig, {"data": data}, where="here").data
        expected = [str(tmp_path / path) for path, _ in config.versions]
        assert [path for path, _ in config.resolved().versions] == expected


@pytest.mark.parametrize("key", ["episodes", "workers"])
def test_a_collection_needs_something_to_do(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}=0"):
        CollectConfig(**{key: 0})
