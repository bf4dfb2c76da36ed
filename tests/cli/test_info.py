"""What ``vla info`` prints of a checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest


def test_evaluations_of_this_checkpoint_are_its_scores(
    call: Callable, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert "vla eval CHECKPOINT --out FOLDER makes some" in " ".join(call("info", checkpoint).out.split())

    elsewhere = tmp_path_factory.mktemp("elsewhere")
    common = ("--episodes", 2, "--seed", 41, "--workers", 1, "--set", "image_size=32", "max_steps=12")
    assert call("eval", checkpoint, *common, "--out", checkpoint.parent / "held-out").code == 0
    assert call("eval", checkpoint, *common, "--out", elsewhere / "again").code == 0
    assert call("eval", "random", *common, "--out", checkpoint.parent / "yardstick").code == 0

    told = elsewhere / "info.json"
    assert call("info", checkpoint, "--json", told).code == 0
    (score,) = json.loads(told.read_text())["scores"]
    assert (score["envs"], score["episodes"], Path(score["folder"]).name) == (["tabletop/place"], 2, "held-out")
    assert call("info", checkpoint, "--results", elsewhere, "--json", told).code == 0
    assert len(json.loads(told.read_text())["scores"]) == 2

    result = checkpoint.parent / "held-out" / "result.json"
    result.write_text(result.read_text().replace('"digest": "', '"digest": "0'))
    assert call("info", checkpoint, "--json", told).code == 0
    assert json.loads(told.read_text())["scores"] == []
