"""What a robot is to the control loop: something to look at that takes commands, whatever bus is behind it."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from vla.core.contract import Contract
from vla.core.fit import check_observation, limits
from vla.core.types import Observation
from vla.deploy.robots.gate import Gate
from vla.deploy.robots.motion import Motion


@runtime_checkable
class Robot(Protocol):
    """One robot with its cameras, real or simulated."""

    @property
    def contract(self) -> Contract:
        """What it shows and takes, and how often."""

    @property
    def motion(self) -> Motion:
        """How hard it may be moved: what `vla.deploy.robots.gate.Gate` keeps, whoever commands."""

    @property
    def instruction(self) -> str:
        """What it is told where nobody says otherwise; empty for a robot that waits to be told."""

    def observe(self) -> Observation:
        """What it sees and feels now; ``time_ns`` is the capture time on a clock of its own that never runs back."""

    def measure(self) -> Float32[np.ndarray, " s"]:
        """The state now, without looking: fast enough for every command, between two observations."""

    def command(self, action: Float32[np.ndarray, " d"]) -> None:
        """Set the targets, in its own units; they hold until the next command. Returns without waiting for motion."""

    def close(self) -> None:
        """Hold still, then let go of the hardware. May be called twice."""


@runtime_checkable
class Scenes(Protocol):
    """A robot whose surroundings can be laid out, and that knows when its task is done: simulated and emulated ones."""

    def begin(self, seed: int) -> None:
        """Lay out the scene of that seed, with its instruction, the arm at its start."""

    @property
    def finished(self) -> bool:
        """Whether the episode is over."""

    @property
    def success(self) -> bool:
        """Whether the task is done."""


def check_robot(robot: Robot, *, steps: int = 3) -> None:
    """Check what every robot promises; an `AssertionError` or a `ContractError` says what does not hold.

    It moves no further than to where it is: it is commanded its own state where an action has a state of the same name,
    and the middle of its range elsewhere.
    """
    contract = robot.contract
    assert contract.policy is None, "contract: a robot's own contract has no policy part"
    assert isinstance(robot.instruction, str), "instruction: expected a str, empty where there is none"
    names = [d.name for d in contract.state]
    last = -1
    for _ in range(steps):
        seen = robot.observe()
        check_observation(seen, contract, who="the robot")
        assert set(seen.images) == {c.name for c in contract.cameras}, f"images: got {sorted(seen.images)}"
        assert seen.time_ns > last, f"time_ns: {seen.time_ns} does not come after {last}"
        last = seen.time_ns
        measured = robot.measure()
        assert measured.shape == seen.state.shape, f"measure: got {measured.shape}, the state is {seen.state.shape}"
        hold = [seen.state[names.index(d.name)] if d.name in names else (d.low + d.high) / 2 for d in contract.action]
        robot.command(np.clip(np.array(hold, np.float32), *limits(contract.action)))
    Gate(contract, robot.motion, where=seen.state)  # refuses a motion that does not fit
    robot.close()
    robot.close()
