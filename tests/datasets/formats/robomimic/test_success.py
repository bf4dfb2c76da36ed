"""Success is what somebody wrote, and not what an end looks like."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from vla.datasets.formats.robomimic.source import open_robomimic
from vla.datasets.formats.robomimic.success import success_of
from vla.datasets.formats.source import Hints


@pytest.mark.parametrize(
    ("written", "reward", "expected", "said"),
    [
        (True, None, True, "from the attribute"),
        ([0], None, False, "from the attribute"),
        ("True", [0, 0], True, "from the attribute"),
        (False, [0, 1], False, "disagrees with a reward of 1"),
        ("perhaps", [0, 0], None, "as yes or no"),
        ("perhaps", [0, 1], True, "neither yes nor no"),
        (None, [0, 1], True, "from a reward of 1"),
        (None, [0, 0], None, "no reward goes from 0 to 1"),
        (None, [1, 1], None, "no reward goes from 0 to 1"),
        (None, [0.0, 0.5], None, "no reward goes from 0 to 1"),
        (None, None, None, "no reward goes from 0 to 1"),
    ],
)
def test_success_of(written: Any, reward: list[float] | None, expected: bool | None, said: str) -> None:
    attributes = {} if written is None else {"success": written}
    value, origin = success_of(attributes, None if reward is None else np.array(reward, np.float32))
    assert value is expected
    assert said in origin


def test_failed_rollouts_that_ended_early(recording: Callable[..., Path]) -> None:
    """Rewards are 0 throughout, and dones is 1 from the step where the object fell."""

    def change(file: h5py.File) -> None:
        for demo in file["data"].values():
            steps = len(demo["actions"])
            demo["rewards"], demo["dones"] = np.zeros(steps), (np.arange(steps) >= steps - 2).astype(int)

    source = open_robomimic(recording((5, 6), change), Hints())
    assert [source.read(number).success for number in (0, 1)] == [None, None]
    assert source.read(0).done.tolist() == [False, False, False, True, True]
    notes = " ".join(source.notes)
    assert "Success is unknown in 2 of 2 demonstrations" in notes
    assert "dones is 1 before the last step in 2 demonstrations" in notes
