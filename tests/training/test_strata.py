"""Moments that deserve more samples: found in the recorded commands alone."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from vla.datasets.dataset import Dataset
from vla.datasets.sampling.windows import Windows
from vla.training.strata import STRATA, before_first_grasp


@pytest.fixture(scope="module")
def windows(dataset: Path) -> Windows:
    return Windows(Dataset.open(dataset), 8)


def test_the_approach_ends_before_the_gripper_closes(windows: Windows) -> None:
    data = windows.dataset
    gripper = [d.name for d in data.contract.action].index("gripper")
    opening = data.contract.action[gripper].high
    approach = before_first_grasp(windows)
    for episode in windows.episodes:
        mine = windows.rows[(windows.owner == episode) & approach]
        start, length = data.episode_starts[episode], data.episode_lengths[episode]
        commands = data.action[start : start + length, gripper]
        assert len(mine), f"episode {episode} has no approach"
        assert (data.action[mine, gripper] > 0.6 * opening).all()
        assert commands[: mine.max() - start + 2].min() > 0.6 * opening, "the gripper closed before the stratum ended"
        assert commands.min() < 0.6 * opening, "an episode that succeeded closed its gripper"


def test_a_robot_without_gripper_has_no_approach(dataset: Path) -> None:
    data = Dataset.open(dataset)
    data.contract = dataclasses.replace(data.contract, gripper=None)
    windows = Windows(data, 8)
    assert before_first_grasp(windows).tolist() == [False] * len(windows)


def test_a_gripper_that_never_closes_approaches_all_the_time(dataset: Path) -> None:
    data = Dataset.open(dataset)
    column = [d.name for d in data.contract.action].index("gripper")
    action = data.action.copy()
    action[:, column] = data.contract.action[column].high
    data.action = action
    assert before_first_grasp(Windows(data, 8)).all()


@pytest.mark.parametrize("name", STRATA)
def test_a_stratum_says_something_of_every_item(name: str, windows: Windows) -> None:
    found = STRATA[name](windows)
    assert (found.dtype, found.shape) == (np.dtype(bool), (len(windows),))
    part = Windows(windows.dataset, 8, windows.episodes[3:5])  # and it depends on nothing but the moment
    mine = np.isin(windows.owner, windows.episodes[3:5])
    np.testing.assert_array_equal(STRATA[name](part), found[mine])
