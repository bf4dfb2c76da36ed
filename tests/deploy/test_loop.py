"""The loop keeps its rate, its limits, and what a policy was promised."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from vla.core.contract import Contract
from vla.core.errors import ContractError
from vla.core.types import ActionChunk, Observation
from vla.deploy import loop
from vla.deploy.loop import drive
from vla.deploy.robots.motion import Motion
from vla.deploy.robots.simulated import SimulatedRobot
from vla.policies.random import RandomPolicy


@pytest.fixture(scope="module")
def robot() -> Iterator[SimulatedRobot]:
    robot = SimulatedRobot("tabletop/place", settings={"image_size": 32})
    yield robot
    robot.close()


class Scripted:
    """Answers with what it is given, and keeps what it saw."""

    def __init__(self, contract: Contract, actions: np.ndarray) -> None:
        self.contract, self._actions = contract, actions
        self.seen: list[Observation] = []
        self.resets = 0

    def reset(self, slot: int) -> None:
        self.resets += 1

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        self.seen += [o for o in observations if o is not None]
        return [None if o is None else ActionChunk(actions=self._actions, time_ns=o.time_ns) for o in observations]


def test_it_keeps_the_rate_of_the_robot(robot: SimulatedRobot) -> None:
    began = time.monotonic()
    found = drive(RandomPolicy(robot.contract, 4, 0), robot, steps=12, execute=3)
    assert time.monotonic() - began >= 11 / robot.contract.control_hz
    assert (found.steps, found.inferences, found.clipped) == (12, 4, 0)


def test_commands_stay_inside_the_limits_and_are_counted(robot: SimulatedRobot) -> None:
    high = np.array([d.high for d in robot.contract.action], np.float32)
    sent: list[np.ndarray] = []
    policy = Scripted(robot.contract, np.stack([high + 1, high]))
    found = drive(policy, robot, steps=4, on_step=lambda seen, action: sent.append(action))
    assert found.clipped == 2
    assert all((action <= high).all() for action in sent)
    assert policy.resets == 1


def test_the_instruction_can_be_said(robot: SimulatedRobot) -> None:
    policy = Scripted(robot.contract, robot.observe().state[None])
    drive(policy, robot, steps=1, instruction="wave")
    assert policy.seen[-1].instruction == "wave"


def test_numbers_that_are_not_finite_never_reach_the_robot(robot: SimulatedRobot) -> None:
    policy = Scripted(robot.contract, np.full((1, 8), np.nan, np.float32))
    with pytest.raises(ContractError, match="NaN or infinity"):
        drive(policy, robot, steps=1)


def test_the_gate_stands_before_the_robot() -> None:
    """A policy that jumps from end to end moves it as its description allows, and the result says so."""

    class Slow(SimulatedRobot):
        motion = Motion(speed=0.5, acceleration=2.0)  # type: ignore[assignment]  # a plain attribute will do

    robot, sent = Slow("tabletop/place", settings={"image_size": 32}), []
    low, high = (np.array([getattr(d, end) for d in robot.contract.action], np.float32) for end in ("low", "high"))
    start = robot.observe().state
    policy = Scripted(robot.contract, np.stack([high, low, low]))
    found = drive(policy, robot, steps=30, on_step=lambda seen, action: sent.append(action))
    robot.close()
    speed = np.diff(np.stack([start, start, *sent]).astype(np.float64), axis=0) * robot.contract.control_hz
    assert (np.abs(speed) <= 0.5).all()
    assert (np.abs(np.diff(speed, axis=0)) * robot.contract.control_hz <= 2.0).all()
    assert found.gated["acceleration"] > 20


def test_another_robots_policy_is_refused(robot: SimulatedRobot) -> None:
    with pytest.raises(ContractError, match="robot: 'else'"):
        drive(RandomPolicy(replace(robot.contract, robot="else"), 4, 0), robot, steps=1)


class Clock:
    """Time that passes only where somebody spends it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_slow_policy_makes_it_late_and_never_makes_it_hurry(
    robot: SimulatedRobot, monkeypatch: pytest.MonkeyPatch
) -> None:
    period, clock = 1 / robot.contract.control_hz, Clock()
    monkeypatch.setattr(loop, "time", clock)

    class Slow(Scripted):
        def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
            clock.sleep(2.5 * period)
            return super().act(observations)

    policy, sent = Slow(robot.contract, np.repeat(robot.observe().state[None], 3, axis=0)), []
    found = drive(policy, robot, steps=6, on_step=lambda seen, action: sent.append(clock.now / period))
    assert (found.inferences, found.late) == (2, 2)
    # The first inference is before the clock of the loop; two ticks are skipped behind each of the others.
    np.testing.assert_allclose(np.array(sent) - 2.5, [2.5, 3, 4, 7.5, 8, 9], atol=1e-6)
