"""``vla explain`` of an evaluation on disk, with a model that answers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny import TINY
from vla.collection.experts import collect
from vla.collection.settings import CollectConfig
from vla.core.config import from_dict
from vla.training.engines import train
from vla.training.recipe import TrainConfig


@pytest.fixture(scope="module")
def describer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that answers, however badly."""
    root = tmp_path_factory.mktemp("describer")
    collect(CollectConfig(episodes=2, workers=1, questions=4, settings={"image_size": 32}), root / "data")
    model = TINY["model"] | {"writers": {"answers": {"kind": "text"}}}
    value = TINY | {
        "model": model,
        "data": {"path": str(root / "data"), "validation": 0.5, "strata": {"questions": 0.5}},
    }
    return train(from_dict(TrainConfig, value, where="a test"), root / "run")


def test_facts_and_the_words_of_a_describer(call: Callable, tmp_path: Path, describer: Path) -> None:
    out = tmp_path / "eval"
    settings = ("--set", "image_size=32", "max_steps=8", "--episodes", 2, "--workers", 1)
    assert call("eval", "random", *settings, "--out", out).code == 0
    files = {name: tmp_path / f"incident.{name}" for name in ("html", "md", "json")}
    written = ("--out", files["html"], "--markdown", files["md"], "--json", files["json"])
    ran = call("explain", out, "--episode", 1, "--checkpoint", describer, *written)
    assert ran.code == 0, ran.err
    assert "The policy was told" in ran.out
    value = json.loads(files["json"].read_text())
    assert (value["seed"], value["replayed"], value["steps"]) == (500_001, True, 8)
    asked = value["statements"]
    assert {one["step"] for one in asked} <= {0, value["best_step"], 8}
    assert {"what do you hold"} <= {one["text"] for one in asked}
    assert value["score"]["true"] > 0
    assert "what do you hold" in files["md"].read_text()
    assert "What " + str(describer) + " says of it" in files["html"].read_text()


def test_what_cannot_be_explained(call: Callable, tmp_path: Path) -> None:
    ran = call("explain", tmp_path / "nothing")
    assert (ran.code, "does not exist" in ran.err) == (2, True)
