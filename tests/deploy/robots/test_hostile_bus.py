"""Hostile commands through gate, SDK and line: servos are told nothing, and do nothing, that is not allowed."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.deploy.punctual import punctual
from tests.deploy.robots.hostile_commands import DRIVERS, Course
from vla.deploy.robots.emulated import EmulatedRobot, emulated_dynamixel, emulated_feetech
from vla.deploy.robots.gate import Gate

pytest.importorskip("dynamixel_sdk", reason="needs the extra robot")
SERVO_HZ = 100.0
WINDOW = 10
"""Commands, over which a speed is measured."""
MARGIN_RAD, GRIPPER_MARGIN_M = 0.15, 0.06
"""How far beyond its limits a joint may be measured: this arm knocks against the table and itself, and what knocks it
meets the force that the servo has at its description's deviation."""
KNOCKED = 0.03
"""Share of the time in which a knock may move a joint faster than any command did."""


@pytest.fixture(scope="module", params=[emulated_dynamixel, emulated_feetech])
def robot(request: pytest.FixtureRequest) -> Iterator[EmulatedRobot]:
    robot = request.param(
        "tabletop/place", settings={"image_size": 32}, servo_hz=SERVO_HZ, silent_s=3.0, watchdog_s=2.0, frames_s=3.0
    )
    yield robot
    robot.close()


def _goes_wild(robot: EmulatedRobot, name: str, commands: int) -> None:
    robot.begin(1)
    low, high = robot.contract.action_limits
    start = robot.measure()
    course = Course(low=low, high=high, home=start, motion=robot.motion, hz=SERVO_HZ)
    gate, driver = Gate(robot.contract, robot.motion, where=start), DRIVERS[name](np.random.default_rng(3), course)
    measured, at_s, sent = [start], [time.monotonic()], [gate.sent]
    due_s = time.monotonic()
    with punctual():
        for _ in range(commands):
            command = gate.check(next(driver), state=measured[-1], age_s=0.0).command
            robot.command(command)
            sent.append(command)
            due_s = max(due_s + 1 / SERVO_HZ, time.monotonic())  # what is late is not caught up
            time.sleep(max(0.0, due_s - time.monotonic()))
            measured.append(robot.measure())
            at_s.append(time.monotonic())
    told, reached = np.array(sent, np.float64), np.array(measured, np.float64)
    assert (told >= low).all()
    assert (told <= high).all()
    assert (np.abs(np.diff(told, axis=0)) * SERVO_HZ <= robot.motion.speed).all()
    assert (np.abs(np.diff(told, 2, axis=0)) * SERVO_HZ**2 <= robot.motion.acceleration).all()
    names = [d.name for d in robot.contract.action]
    beyond = np.maximum(low - reached, reached - high).max(axis=0)
    assert (beyond <= [GRIPPER_MARGIN_M if name == "gripper" else MARGIN_RAD for name in names]).all(), beyond
    took_s = np.array(at_s)[WINDOW:] - np.array(at_s)[:-WINDOW]
    fast = np.abs(reached[WINDOW:] - reached[:-WINDOW]) / took_s[:, None] > np.asarray(robot.motion.speed) * 1.1
    assert fast.mean(axis=0).max() < KNOCKED, fast.mean(axis=0)


@pytest.mark.parametrize("name", ["bang", "hostile"])
def test_a_few(robot: EmulatedRobot, name: str) -> None:
    _goes_wild(robot, name, 300)


@pytest.mark.long
@pytest.mark.parametrize("name", DRIVERS)
def test_twenty_thousand_commands_on_each_bus(robot: EmulatedRobot, name: str) -> None:
    _goes_wild(robot, name, 4_000)
