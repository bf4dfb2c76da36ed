"""A robot from another package is driven by name."""

import numpy as np

from vla.deploy.loop import drive
from vla.deploy.robots.robot import check_robot
from vla.deploy.robots.table import make_robot
from vla.policies.random import RandomPolicy


def test_it_is_driven() -> None:
    robot = make_robot("example-motors", {"brightness": 3})
    check_robot(robot)
    sent: list[np.ndarray] = []
    found = drive(RandomPolicy(robot.contract, 4, 0), robot, steps=5, on_step=lambda seen, action: sent.append(action))
    assert found.steps == 5
    np.testing.assert_array_equal(robot.observe().state, sent[-1])
    assert robot.observe().images["eye"].max() == 3
