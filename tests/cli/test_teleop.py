"""Keys that are typed into a terminal drive the simulated arm, and become demonstrations."""

import dataclasses
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from vla.core.config import load_recipe
from vla.datasets.dataset import Dataset
from vla.training.engines import train
from vla.training.recipe import TrainConfig

SMALL = ("--set", "settings={image_size: 32}")
_PATIENCE_S = 60.0


class Typist:
    """A terminal in which the command runs, with somebody at its keys."""

    def __init__(self, *arguments: object) -> None:
        self._master, slave = pty.openpty()
        command = [sys.executable, "-m", "vla.cli.main", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.said = ""
        self._read_to = 0

    def wait_for(self, text: str) -> None:
        """Until the command says ``text`` (a pattern) behind what was waited for before."""
        deadline = time.monotonic() + _PATIENCE_S
        while (found := re.compile(text).search(self.said, self._read_to)) is None:
            ready, _, _ = select.select([self._master], [], [], 0.2)
            try:
                self.said += os.read(self._master, 4096).decode(errors="replace") if ready else ""
            except OSError:  # the command has ended
                pytest.fail(f"it ended before {text!r}: {self.said}")
            assert time.monotonic() < deadline, self.said
        self._read_to = found.end()

    def type(self, *keys: str, every_s: float = 0.0) -> None:
        """One after the other, each in a control period of its own."""
        for key in keys:
            os.write(self._master, key.encode())
            time.sleep(every_s)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


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
