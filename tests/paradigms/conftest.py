"""Tiny contestants, trained once for a few steps on demonstrations with questions and captions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tiny import TINY
from vla.collection.experts import collect
from vla.collection.settings import CollectConfig
from vla.paradigms.contestants import Budget, Contestant, Stage, train_contestant
from vla.paradigms.framework import TWO_TOWER, UNIFIED
from vla.paradigms.measuring import Asking, Measurement, asking_of, measure

_SIZES = {"width": 32, "layers": 1, "heads": 2}
_RECIPES: dict[str, dict[str, Any]] = {
    "tiny-towers": {
        "data": {"strata": {"scenes": 0.5}},
        "model": {
            "kind": "two-tower",
            "embedding": 16,
            "pictures": {**_SIZES, "channels": 8, "tokens": 4},
            "sentences": _SIZES,
            "hidden": 32,
            "layers": 1,
        },
    },
    "tiny-unified": {
        "data": {"strata": {"questions": 0.5}},
        "model": {**TINY["model"], "writers": {"answers": {"kind": "text"}}},
    },
}
SAMPLES = 16


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compared") / "data"
    settings = {"image_size": 32}
    collect(CollectConfig(episodes=3, workers=1, questions=4, captions=2, parts=1, settings=settings), root)
    return root


@pytest.fixture(scope="session")
def contestants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Contestant]:
    """Two towers in one stage, and a unified model in two, of which the second leaves its reader of pictures alone."""
    folder = tmp_path_factory.mktemp("recipes")
    rest = {"engine": "inline", "workers": 1, "batch": 4, "log_steps": 1, "evaluators": []}
    for name, recipe in _RECIPES.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe | rest))
    towers, unified = (str(folder / f"{name}.yaml") for name in _RECIPES)
    still = Stage(recipe=unified, share=0.5, changes={"freeze": ["readers.images.*"]})
    return {
        "towers": Contestant(paradigm=TWO_TOWER, stages=(Stage(recipe=towers),)),
        "unified": Contestant(
            paradigm=UNIFIED,
            stages=(Stage(recipe=unified, share=0.25, given=True), Stage(recipe=unified, share=0.5), still),
        ),
    }


@pytest.fixture(scope="session")
def budget(data: Path) -> Budget:
    return Budget(data=data, samples=SAMPLES, seed=3)


@pytest.fixture(scope="session")
def asking(data: Path) -> Asking:
    made = asking_of(data, episodes=1, probes=2, items=3, seconds=0.1)
    return replace(made, settings=made.settings | {"max_steps": 5})


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compared-runs")


@pytest.fixture(scope="session")
def measured(
    contestants: dict[str, Contestant], budget: Budget, asking: Asking, data: Path, compared: Path
) -> dict[str, Measurement]:
    found = {}
    for name, contestant in contestants.items():
        stages = train_contestant(contestant, budget, compared / name)
        given = sum(stage.given for stage in contestant.stages)
        found[name] = measure(name, contestant.paradigm, stages, given, asking, data, compared / name)
    return found
