"""Driving while training: the best is kept, its scenes are nobody else's, and no run waits for it or falls with it."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vla.core.config import from_dict
from vla.core.errors import ConfigError
from vla.models.checkpoint import load_model
from vla.models.info import checkpoint_damage
from vla.training.closed_loop import ClosedLoop, Drive
from vla.training.engines import train
from vla.training.metrics import MetricsLog, read_metrics
from vla.training.recipe import ClosedLoopConfig, TrainConfig

MakeRecipe = Callable[..., TrainConfig]
SCENES = {"env": "tabletop/place", "settings": {"image_size": 32}, "episodes": 2}


def test_the_last_weights_drive_and_the_chosen_ones_say_which_scenes_chose(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    heard: list[dict[str, Any]] = []
    train(make_recipe(steps=3, closed_loop=SCENES | {"every_s": 1e-3}), tmp_path, heard.append)
    drives = [line for line in heard if line["kind"] == "closed_loop"]
    assert drives[0]["step"] == 1
    assert drives[-1]["step"] == 3
    assert all(line["episodes"] == 2 and 0 <= line["success"] <= 1 for line in drives)
    assert checkpoint_damage(tmp_path / "best") == []
    load_model(tmp_path / "best")
    origin = json.loads((tmp_path / "best" / "provenance.json").read_text())
    selection = origin["selection"]
    assert (selection["env"], selection["seeds"]) == ("tabletop/place", [400_000, 400_001])
    assert selection["chosen"]["step"] == origin["training"]["step"]
    assert selection["tried"][0]["step"] == 1
    assert "selection" not in json.loads((tmp_path / "checkpoint" / "provenance.json").read_text())
    assert not list(tmp_path.glob(".unfinished*"))


@pytest.mark.parametrize("seed", [500_000, 499_999, 599_999])
def test_scenes_that_are_reported_choose_nothing(seed: int) -> None:
    with pytest.raises(ConfigError, match="not chosen by what is reported"):
        from_dict(ClosedLoopConfig, {"env": "tabletop/place", "seed": seed}, where="a test")


def test_scenes_that_are_trained_on_choose_nothing(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="scenes 0 to 1 of tabletop/place are in the training data"):
        train(make_recipe(closed_loop=SCENES | {"seed": 0}), tmp_path)


class _Run:
    """As much of a run as `ClosedLoop` sees; ``write`` makes no checkpoint that could drive."""

    def __init__(self, path: Path, **changes: Any) -> None:
        self.path = path
        config = from_dict(ClosedLoopConfig, SCENES | {"every_s": 1e-3} | changes, where="a test")
        self.loop = ClosedLoop(config, path, {}, MetricsLog(path, lambda line: None, 0))

    def write(self, folder: Path) -> None:
        (folder / "weights.safetensors").write_bytes(b"none")

    def notes(self) -> list[str]:
        return [line["text"] for line in read_metrics(self.path) if line["kind"] == "note"]


def test_weights_that_cannot_drive_are_said_and_the_run_goes_on(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.loop.finish(1, 0.0, run.write)
    run.loop.finish(2, 0.0, run.write)
    run.loop.close()
    (note,) = run.notes()
    assert "is no checkpoint" in note
    assert note.endswith("the run goes on without it")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir() and path.name != "tensorboard"] == []


def test_a_process_that_is_killed_is_said_and_the_run_goes_on(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    pid = run.loop._process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    run.loop._process.join()
    run.loop._hand_over(1, run.write)
    run.loop.offer(2, 0.0, run.write)
    run.loop.offer(3, 0.0, run.write)
    run.loop.close()
    assert [note for note in run.notes() if "its process ended (exit code -9)" in note]


def test_nobody_waits_while_another_drives(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    for step in range(1, 6):
        run.loop.offer(step, 0.0, run.write)
    run.loop.close()
    assert not list(tmp_path.glob(".unfinished*"))


def test_a_rate_of_nothing_is_none() -> None:
    assert Drive(step=1, succeeded=0, of=0).rate == 0.0
