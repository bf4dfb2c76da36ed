"""Scenes that a checkpoint was trained on are counted, and said before anything runs and in the result."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vla.core.config import from_dict
from vla.core.errors import ConfigError
from vla.evaluation.evaluate import evaluate
from vla.evaluation.scenes.overlap import overlaps, trained_scenes
from vla.evaluation.settings import RunConfig
from vla.library import train
from vla.training.recipe import TrainConfig

ENVS = ("a", "a", "b")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    scenes = {"a": [[0, 9], [20, 24]], "c": [[0, 99]]}
    (tmp_path / "provenance.json").write_text(json.dumps({"scenes": scenes}))
    return tmp_path


@pytest.fixture
def trained(dataset: Path, tmp_path: Path) -> Path:
    """A tiny model after one step."""
    recipe = {
        "data": {"path": str(dataset), "validation": 0.2},
        "model": {
            "trunk": {"width": 16, "layers": 1, "heads": 2},
            "readers": {"images": {"channels": 8, "tokens": 4}},
            "head": {"bins": 16},
        },
        **{"engine": "inline", "workers": 1, "batch": 2, "steps": 1, "minutes": 1.0},
    }
    return train(from_dict(TrainConfig, recipe, where="recipe"), tmp_path / "run").checkpoint


def test_overlaps_are_counted_once_for_each_environment(checkpoint: Path) -> None:
    (line,) = overlaps(checkpoint, ENVS, seed=5, episodes=17)
    assert line.startswith("a: 7 of the 17 scenes (seeds 5 to 21) are in the data that")
    assert not list(overlaps(checkpoint, ENVS, seed=10, episodes=10))
    assert not list(overlaps(checkpoint, ENVS, seed=25, episodes=10))


def test_scenes_that_chose_the_checkpoint_are_said_too(tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text(json.dumps({"selection": {"env": "a", "seeds": [100, 119]}}))
    (line,) = overlaps(tmp_path, ENVS, seed=110, episodes=20)
    assert line.startswith("a: 10 of the 20 scenes (seeds 110 to 129) chose")
    assert not list(overlaps(tmp_path, ENVS, seed=120, episodes=20))


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"scenes": 3}', '{"scenes": {"a": [[1]]}}'])
def test_what_says_nothing_overlaps_with_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "provenance.json").write_text(text)
    assert trained_scenes(tmp_path) == {}
    assert trained_scenes(tmp_path / "none") == {}


def test_a_policy_that_has_learned_says_which_scenes_it_knows(trained: Path) -> None:
    notes: list[str] = []
    run = RunConfig(workers=1, batch=1)
    settings = {"image_size": 32, "max_steps": 1}
    known = evaluate(trained, settings=settings, episodes=2, seed=0, run=run, note=notes.append)
    assert len(known.overlaps) == 1
    assert known.overlaps[0].startswith("tabletop/place: 2 of the 2 scenes (seeds 0 to 1)")
    assert notes == list(known.overlaps)
    assert evaluate(trained, settings=settings, episodes=1, seed=500_000, run=run).overlaps == ()


def test_a_checkpoint_computes_as_it_is_told(trained: Path) -> None:
    """In less precision it acts a little differently; whoever has no device to choose says so."""
    run = RunConfig(workers=1, batch=1, device="cpu")
    settings = {"image_size": 32, "max_steps": 2}
    exact, coarse = (
        evaluate(trained, settings=settings, episodes=1, run=replace(run, precision=precision))
        for precision in ("float32", "bfloat16")
    )
    digests = [result.rows[0].episodes[0].actions_digest for result in (exact, coarse)]
    assert digests[0] != digests[1]
    with pytest.raises(ConfigError, match="compile=graphs: expected a CUDA device, got cpu"):
        evaluate(trained, settings=settings, episodes=1, run=replace(run, engine="inline", compile="graphs"))
    with pytest.raises(ConfigError, match="policy expert takes no device: a checkpoint does"):
        evaluate("expert", episodes=1, run=run)
