"""All joints leave and arrive together, at a quarter of the speed of the one that has farthest to go, exactly."""

import numpy as np
import pytest

from tests.deploy.control.arms import Arm
from vla.deploy.control.travel import Travel
from vla.deploy.robots.motion import Motion

MOTION = Motion(speed=(2.0, 0.5), acceleration=1e6)
START, GOAL = np.array([0.1, -0.2], np.float32), np.array([1.1, 0.3], np.float32)


@pytest.mark.parametrize("hz", [20.0, 100.0])
def test_the_way_takes_as_long_as_the_slowest_joint_needs(hz: float) -> None:
    travel = Travel(START, GOAL, MOTION, Arm(hz=hz).contract, then_pause=True)
    assert travel.then_pause
    places = [START]
    while not travel.there:
        places.append(travel.next())
        assert len(places) < 1000
    assert (len(places) - 1) / hz == pytest.approx(0.5 / (0.5 / 4), abs=1 / hz)  # the second joint: 4 s
    assert np.array_equal(places[-1], GOAL)
    steps = np.diff(np.stack(places), axis=0)
    assert (np.abs(steps) * hz <= np.array([2.0, 0.5]) / 4 + 1e-5).all()
    np.testing.assert_allclose(steps[:, 0] * 0.5, steps[:, 1], atol=1e-6)  # on a straight line
    assert np.array_equal(travel.next(), GOAL)  # and it stays there


def test_the_last_target_is_the_goal_to_the_last_bit() -> None:
    """What is computed on the way would lie beside it."""
    start, goal = np.array([0.1, -9.7], np.float32), np.array([3.3, 0.7], np.float32)
    assert not np.array_equal(start + np.float32(1) * (goal - start), goal)
    travel = Travel(start, goal, MOTION, Arm().contract, then_pause=False)
    last = start
    while not travel.there:
        last = travel.next()
    assert np.array_equal(last, goal)


def test_who_is_there_already_needs_one_step() -> None:
    travel = Travel(GOAL, GOAL, MOTION, Arm().contract, then_pause=False)
    assert not travel.there
    assert np.array_equal(travel.next(), GOAL)
    assert travel.there
