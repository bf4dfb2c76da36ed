"""A policy drives a robot from the command line."""

import json
from collections.abc import Callable
from pathlib import Path

SMALL = ("--set", "settings={image_size: 32}")


def test_a_random_walk_on_the_simulated_robot(call: Callable, tmp_path: Path) -> None:
    answer = call("run", "random", *SMALL, "--seconds", "0.5", "--execute", "2", "--json", tmp_path / "drive.json")
    assert answer.code == 0, answer.err
    found = json.loads((tmp_path / "drive.json").read_text())
    assert (found["steps"], found["inferences"], found["clipped"]) == (5, 3, 0)


def test_wrong_names_are_one_line(call: Callable) -> None:
    assert "unknown robot 'simulate'" in call("run", "random", "--robot", "simulate").err
    assert "policy nowhere does not exist" in call("run", "nowhere", *SMALL).err
