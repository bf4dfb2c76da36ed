"""A policy that goes to one pose, and a loop that drives a robot there."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vla.core.contract import Contract
from vla.core.types import ActionChunk, Observation, Policy
from vla.deploy.control.drive import Step
from vla.deploy.control.loop import ControlLoop
from vla.deploy.robots.robot import Robot


class Going:
    """To a pose whose joints are named, so their order is that of the contract."""

    def __init__(self, contract: Contract, pose: Mapping[str, float]) -> None:
        self.contract = contract
        self._goal = np.array([[pose[d.name] for d in contract.action]], np.float32)

    def reset(self, slot: int) -> None: ...

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        (seen,) = observations
        assert seen is not None
        return [ActionChunk(actions=self._goal, time_ns=seen.time_ns)]


def drive(policy: Policy, robot: Robot, steps: int, on_step: Callable[[Step], None] = lambda step: None) -> None:
    loop = ControlLoop(policy, robot, on_step=on_step, instruction="move")
    try:
        loop.run(steps)
    finally:
        loop.close()
