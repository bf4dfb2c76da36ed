"""Recipes that learn from them in seconds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vla.core.config import from_dict
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter
from vla.training.recipe import TrainConfig

MakeRecipe = Callable[..., TrainConfig]


@pytest.fixture(scope="session")
def make_recipe(dataset: Path) -> MakeRecipe:
    """Recipes of a tiny model; the time never ends a run, the steps do."""

    def make(**changes: Any) -> TrainConfig:  # what is a mapping there is merged key by key
        value: dict[str, Any] = {
            "data": {"path": str(dataset), "validation": 0.2, "strata": {"approach": 0.5}},
            "model": {
                "trunk": {"width": 32, "layers": 1, "heads": 2},
                "readers": {"images": {"channels": 8, "tokens": 4}},
                "head": {"bins": 16},
                "auxiliaries": {"grounding": {"bins": 8}},
            },
            "engine": "inline",
            "workers": 1,
            "device": "cpu",
            "precision": "float32",
            "batch": 8,
            "steps": 4,
            "minutes": 1e6,
            "warmup_steps": 2,
            "log_steps": 1,
            "seed": 3,
        }
        for key, item in changes.items():
            value[key] = value[key] | item if isinstance(item, dict) and key in value else item
        return from_dict(TrainConfig, value, where="a test")

    return make


@pytest.fixture(scope="session")
def bare(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same episodes without any signal."""
    source = Dataset.open(dataset)
    root = tmp_path_factory.mktemp("bare") / "place"
    contract = replace(source.contract, signals={})
    create_dataset(root, contract)
    with SegmentWriter(root, contract, {}) as writer:
        for number in range(len(source.episodes)):
            writer.append(replace(source.read_episode(number), signals={}))
        publish(root, [writer.seal()], "without signals")
    return root
