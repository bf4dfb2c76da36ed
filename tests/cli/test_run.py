"""A policy drives a robot from the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vla.library import open_dataset

SMALL = ("--set", "image_size=32")


def test_a_random_walk_on_the_simulated_robot_is_told_and_recorded(call: Callable, tmp_path: Path) -> None:
    told, record = tmp_path / "drive.json", tmp_path / "runs"
    where = ("--env", "tabletop/place", *SMALL, "--set", "max_steps=6")
    answer = call("run", "--policy", "random", *where, "--episodes", "2", "--execute", "2", "--record", record,
                  "--json", told)  # fmt: skip
    assert answer.code == 0, answer.err
    first, second = json.loads(told.read_text())["episodes"]
    assert (first["drive"]["steps"], first["drive"]["inferences"], first["drive"]["ended"]) == (6, 3, "failure")
    assert (first["seed"], second["seed"], second["success"]) == (0, 1, False)
    assert "0 of 2 scenes solved" in answer.out
    assert "cadence" in answer.out
    dataset = open_dataset(record)
    assert [episode.length for episode in dataset.episodes] == [6, 6]
    assert [episode.success for episode in dataset.episodes] == [False, False]
    episode = dataset.read_episode(0)
    np.testing.assert_array_equal(episode.action, episode.action_executed)  # nothing had to be gated
    assert (np.diff(episode.time_ns) > 0).all()
    assert (episode.command_time_ns > episode.time_ns).all()
    assert episode.valid.all()


def test_wrong_names_are_one_line(call: Callable) -> None:
    assert "unknown robot 'simulate'" in call("run", "--policy", "random", "--robot", "simulate").err
    assert "policy nowhere does not exist" in call("run", "--policy", "nowhere", *SMALL).err
    assert "unknown robot" in call("run", "--policy", "random", "--robot", "dynamixl").err
