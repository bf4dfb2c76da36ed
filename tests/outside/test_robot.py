"""A robot from another package is driven by name."""

import numpy as np

from vla.deploy.control.loop import ControlLoop
from vla.deploy.robots.robot import check_robot
from vla.deploy.robots.table import make_robot
from vla.policies.random import RandomPolicy


def test_it_is_driven() -> None:
    robot = make_robot("example-motors", {"brightness": 3})
    check_robot(robot)
    sent: list[np.ndarray] = []
    policy = RandomPolicy(robot.contract, 4, 0)
    loop = ControlLoop(policy, robot, on_step=lambda step: sent.append(step.verdict.command), instruction="move")
    assert loop.run(5).steps == 5
    loop.close()
    np.testing.assert_array_equal(robot.observe().state, sent[-1])
    assert robot.observe().images["eye"].max() == 3
