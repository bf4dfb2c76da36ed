"""Several seeds of one recipe: each a run of its own, nothing trained twice, and one band of what they brought."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from vla.core.errors import CheckpointError, ConfigError
from vla.evaluation.evaluate import evaluate
from vla.evaluation.settings import RunConfig
from vla.library import train_seeds
from vla.models.checkpoint import load_model
from vla.training.engines import Stopped, train
from vla.training.loop import STOP
from vla.training.metrics import read_metrics
from vla.training.recipe import TrainConfig
from vla.training.seeds.band import Band, SeedRuns
from vla.training.seeds.runs import seeds_of

MakeRecipe = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def recipe(make_recipe: MakeRecipe) -> TrainConfig:
    return make_recipe(steps=2, validate_s=1e-6)


@pytest.fixture(scope="module")
def trained(recipe: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SeedRuns]:
    """Three seeds; do not change the folder."""
    group = tmp_path_factory.mktemp("band")
    return group, train_seeds(recipe, group)


def test_each_seed_is_the_run_that_it_would_be_alone(
    trained: tuple[Path, SeedRuns], recipe: TrainConfig, tmp_path: Path
) -> None:
    group, result = trained
    assert [run.seed for run in result.runs] == [3, 4, 5]
    assert len({run.digest for run in result.runs}) == 3
    train(replace(recipe, seed=4), tmp_path / "alone")
    (four,) = [run for run in result.runs if run.seed == 4]
    assert Path(four.checkpoint) == group / "seed-4" / "checkpoint"
    for ours, theirs in zip(
        load_model(Path(four.checkpoint))[1].parameters(), load_model(tmp_path / "alone/checkpoint")[1].parameters(),
        strict=True,
    ):  # fmt: skip
        assert ours.equal(theirs)
    last = [line for line in read_metrics(tmp_path / "alone") if line["kind"] == "validation"][-1]
    assert last["step"] == four.steps == 2
    for name, value in four.metrics.items():  # measured of the final weights, as the run did at its last step
        assert value == pytest.approx(last[name], rel=1e-5)
    assert "first_frame_action_error" in four.metrics


def test_the_band_is_over_the_seeds(trained: tuple[Path, SeedRuns]) -> None:
    group, result = trained
    bands = {band.metric: band for band in result.bands}
    assert bands.keys() == result.runs[0].metrics.keys()
    values = [run.metrics["action_loss"] for run in result.runs]
    assert len(set(values)) == 3
    expected = Band(
        metric="action_loss", mean=fmean(values), low=min(values), high=max(values), deviation=stdev(values), seeds=3
    )
    assert bands["action_loss"] == expected
    written = json.loads((group / "seeds.json").read_text())
    assert written["seeds"] == [3, 4, 5]
    assert written["bands"][0]["mean"] == result.bands[0].mean
    assert written["provenance"]["recipe"]["seed"] == 3
    assert written["provenance"]["versions"]


def test_the_picture_stands_alone(trained: tuple[Path, SeedRuns]) -> None:
    text = (trained[0] / "seeds.svg").read_text()
    root = ElementTree.fromstring(text)
    said = " ".join(root.itertext())
    assert "action loss, training" in said
    assert "first frame action error, held out" in said
    assert "var(--" not in text
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_the_same_again_trains_nothing_and_one_more_seed_trains_one(recipe: TrainConfig, tmp_path: Path) -> None:
    first = train_seeds(recipe, tmp_path, seeds=1)
    heard: list[dict[str, Any]] = []
    again = train_seeds(recipe, tmp_path, seeds=1, log=heard.append)
    assert (again, heard) == (first, [])
    assert again.bands[0].deviation is None
    more = train_seeds(recipe, tmp_path, seeds=2, log=heard.append)
    assert {line["seed"] for line in heard} == {4}
    assert more.runs[0] == first.runs[0]
    assert seeds_of(tmp_path) == [3, 4]
    assert more.bands[0].seeds == 2


def test_one_that_was_stopped_goes_on_by_the_folder_alone(recipe: TrainConfig, tmp_path: Path) -> None:
    config = replace(recipe, steps=3)

    def stop(line: dict[str, Any]) -> None:
        if line["kind"] == "train" and line["seed"] == 4 and line["step"] == 2:
            (tmp_path / "seed-4" / STOP).touch()

    with pytest.raises(Stopped, match="seed-4"):
        train_seeds(config, tmp_path, seeds=2, log=stop)
    assert seeds_of(tmp_path) == [3, 4]
    heard: list[dict[str, Any]] = []
    result = train_seeds(None, tmp_path, resume=True, log=heard.append)
    assert [(line["seed"], line["step"]) for line in heard if line["kind"] == "train"] == [(4, 3)]
    assert [run.steps for run in result.runs] == [3, 3]
    longer = train_seeds(None, tmp_path, resume=True, changes={"steps": 4})
    assert [run.steps for run in longer.runs] == [4, 4]


def test_success_is_in_it_where_it_was_measured(recipe: TrainConfig, tmp_path: Path) -> None:
    """Beside the training, and afterwards: evaluations that lie in a run's folder are found by the weights' digest."""
    driven = replace(
        recipe, closed_loop=replace(
            recipe.closed_loop, env="tabletop/place", settings={"image_size": 32, "max_steps": 3}, episodes=2
        ),
    )  # fmt: skip
    result = train_seeds(driven, tmp_path, seeds=1)
    assert result.runs[0].metrics["closed_loop_success"] == 0.0
    where: dict[str, Any] = {"settings": {"image_size": 32, "max_steps": 3}, "episodes": 2}
    evaluate(
        result.runs[0].checkpoint, **where, languages=("right", "blank"), out=tmp_path / "seed-3" / "eval",
        run=RunConfig(workers=1, batch=2),
    )  # fmt: skip
    again = train_seeds(driven, tmp_path, seeds=1)
    assert again.runs[0].metrics["success tabletop/place"] == 0.0
    assert again.runs[0].metrics["success tabletop/place, blank"] == 0.0
    held_out = {name: value for name, value in again.runs[0].metrics.items() if "success" not in name}
    assert held_out == {name: value for name, value in result.runs[0].metrics.items() if "success" not in name}


def test_what_does_not_fit_is_refused(recipe: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"seeds=0 must be at least 1"):
        train_seeds(recipe, tmp_path / "none", seeds=0)
    train_seeds(recipe, tmp_path / "band", seeds=1)
    with pytest.raises(CheckpointError, match=r"seed-3 holds a run of another recipe \(batch: 8 there, 4 here\)"):
        train_seeds(replace(recipe, batch=4), tmp_path / "band", seeds=1)
    train(recipe, tmp_path / "one")
    with pytest.raises(CheckpointError, match=r"one holds the run of one seed; choose another --out"):
        train_seeds(recipe, tmp_path / "one")
    with pytest.raises(CheckpointError, match=r"nowhere holds no runs of several seeds"):
        train_seeds(None, tmp_path / "nowhere", resume=True)
    (tmp_path / "band" / "seeds.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"seeds.json is damaged"):
        train_seeds(recipe, tmp_path / "band", seeds=1)
