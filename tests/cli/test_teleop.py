"""Keys that are typed into a terminal drive the simulated arm, and become demonstrations."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.typist import Typist
from vla.core.config import load_recipe
from vla.datasets.dataset import Dataset
from vla.training.engines import train
from vla.training.recipe import TrainConfig

SMALL = ("--set", "settings={image_size: 32}")


@pytest.fixture
def typist() -> Iterator[Callable[..., Typist]]:
    opened: list[Typist] = []

    def run(*arguments: object) -> Typist:
        opened.append(Typist(*arguments))
        return opened[-1]

    yield run
    for one in opened:
        one.close()


def test_what_is_typed_becomes_a_dataset(
    typist: Callable[..., Typist], call: Callable, recipe: Path, tmp_path: Path
) -> None:
    root = tmp_path / "mine"
    hands = typist(
        "teleop", root, "--env", "tabletop/place", *SMALL, "--episodes", 2, "--by-set", "tool=false",
        "--json", tmp_path / "t.json",
    )  # fmt: skip
    hands.wait_for("q/a joint1")
    for keys, ending in ((("q", "q", "w", ",", "\x7f"), "thrown away"), (("q", "q", "d", ",", "\r"), "success.*steps"),
                         (("\t", "w", "r", "x"), "failure.*steps")):  # fmt: skip
        hands.wait_for("ready")
        hands.type("\r")
        hands.wait_for("recording")
        hands.type("", *keys, every_s=0.5)
        hands.wait_for(ending)
    hands.wait_for("2 episodes in ")
    assert hands.process.wait(60) == 0
    assert [e["success"] for e in json.loads((tmp_path / "t.json").read_text())["episodes"]] == [None, True, False]

    assert call("data", "validate", root, "--deep").code == 0
    dataset = Dataset.open(root)
    assert [episode.success for episode in dataset.episodes] == [True, False]
    joints, tool = dataset.read_episode(0), dataset.read_episode(1)
    moved = joints.action[joints.valid][-1] - joints.action[0]
    np.testing.assert_allclose(moved, [0.1, 0, -0.05, 0, 0, 0, 0, -0.02], atol=1e-5)
    np.testing.assert_allclose(joints.state[-1], joints.action[-1], atol=0.02)  # and the arm went there
    assert np.abs(tool.action[tool.valid][-1] - tool.action[0]).max() > 0.01
    assert joints.images["front"].shape == (len(joints), 32, 32, 3)

    config = load_recipe(TrainConfig, recipe)
    data = dataclasses.replace(config.data, path=str(root))
    assert (train(dataclasses.replace(config, data=data), tmp_path / "run") / "contract.json").exists()


def test_without_a_terminal_there_are_no_keys(call: Callable, tmp_path: Path) -> None:
    answer = call("teleop", tmp_path / "mine", *SMALL)
    assert answer.code == 2
    assert "run it in a terminal" in answer.err
