"""A teleoperator: a wheel that is turned, in place of a device on a bus, and moves all joints alike."""

import numpy as np

from vla.core.types import ActionChunk
from vla.deploy.robots.robot import Robot


class Wheel:
    """A policy of one step a chunk."""

    def __init__(self, robot: Robot, step: float = 0.01) -> None:
        self.contract = robot.contract
        self._step = step

    def reset(self, slot: int) -> None:
        """It is where it is."""

    def act(self, observations: list) -> list:
        """A step on from where the robot is."""
        return [
            o and ActionChunk(actions=(o.state + np.float32(self._step))[None], time_ns=o.time_ns) for o in observations
        ]
