"""Recipes that learn from them in seconds."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vla import collect, fit_image_codec
from vla.collection.labels.signals import EVENT, PIXEL, TRACE
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


def _with_signals(dataset: Path, root: Path, names: Mapping[str, str]) -> Path:
    """The same episodes with these of its signals, by their new names."""
    source = Dataset.open(dataset)
    contract = replace(source.contract, signals={new: source.contract.signals[old] for old, new in names.items()})
    create_dataset(root, contract)
    with SegmentWriter(root, contract, {}) as writer:
        for episode in map(source.read_episode, range(len(source.episodes))):
            writer.append(replace(episode, signals={new: episode.signals[old] for old, new in names.items()}))
        publish(root, [writer.seal()], f"with signals {list(names.values())}")
    return root


@pytest.fixture(scope="session")
def bare(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same episodes without any signal."""
    return _with_signals(dataset, tmp_path_factory.mktemp("bare") / "place", {})


@pytest.fixture(scope="session")
def renamed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same episodes with the simulator's signals, called as labels from logs are."""
    names = {"grounding": EVENT, "pointing": PIXEL, "approach": TRACE}
    return _with_signals(dataset, tmp_path_factory.mktemp("renamed") / "place", names)


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations with questions."""
    root = tmp_path_factory.mktemp("asked") / "data"
    collect(root, env="tabletop/place", settings={"image_size": 32}, episodes=8, questions=4, workers=1)
    return root


@pytest.fixture(scope="session")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations with captions."""
    root = tmp_path_factory.mktemp("described") / "data"
    collect(root, env="tabletop/place", settings={"image_size": 32}, episodes=8, captions=4, parts=2, workers=1)
    return root


@pytest.fixture(scope="session")
def codes(asked: Path) -> Path:
    """A codec of their pictures, beside them."""
    root = asked.parent / "codes"
    fit_image_codec(asked, root, settings={"kind": "patches", "codes": 32})
    return root
