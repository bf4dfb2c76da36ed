"""Events of the gripper: only what is carried is a grasp, and what comes is said from all steps before it."""

import numpy as np

from vla.collection.labels.events import Grasp, grasps

TOOL = np.array([0, 0, 0, 0, 1, 2, 3, 3, 3, 2, 2, 2], np.float64)[:, None]


def _closed(text: str) -> np.ndarray:
    return np.array([letter == "x" for letter in text])


def test_a_grasp_is_a_closing_that_is_carried() -> None:
    assert grasps(_closed("...xxxxx...."), TOOL, 0.5) == [Grasp(closed=3, opened=8)]
    assert grasps(_closed("...xxxxx...."), TOOL, 3.5) == []


def test_one_that_lets_go_at_once_is_none() -> None:
    assert grasps(_closed(".x.xxxxx.xx."), TOOL, 0.5) == [Grasp(closed=3, opened=8)]
    assert grasps(_closed(".xx........."), TOOL, 0.5) == []


def test_what_holds_to_the_end_never_opens_and_what_began_closed_never_closed() -> None:
    assert grasps(_closed("...xxxxxxxxx"), TOOL, 0.5) == [Grasp(closed=3, opened=None)]
    assert grasps(_closed("..........xx"), TOOL, 0.5) == [Grasp(closed=10, opened=None)]
    assert grasps(_closed("xxxxxx......"), TOOL, 0.5) == []
    assert grasps(_closed("............"), TOOL, 0.5) == []
