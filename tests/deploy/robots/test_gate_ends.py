"""Where the gate ends: margins, walls, joints that nothing measures, and commands at the servos' own rate."""

from dataclasses import replace

import numpy as np
import pytest

from vla.core.contract import Contract, Dimension
from vla.core.errors import ContractError
from vla.deploy.robots.gate import Gate
from vla.deploy.robots.motion import Motion, Workspace

LOW, HIGH, HOME = np.array([-2.0, 0.0]), np.array([2.0, 0.08]), np.array([0.5, 0.03], np.float32)
DIMENSIONS = tuple(
    Dimension(name=name, unit=unit, low=float(low), high=float(high))
    for name, unit, low, high in zip(("elbow", "gripper"), ("rad", "m"), LOW, HIGH, strict=True)
)
CONTRACT = Contract(robot="arm", cameras=(), state=DIMENSIONS, action=DIMENSIONS, control_hz=50.0)
MOTION = Motion(speed=(2.0, 0.5), acceleration=(10.0, 2.0))


def sent(gate: Gate, asked: np.ndarray, times: int, state: np.ndarray = HOME) -> np.ndarray:
    """The commands that come of asking the same again and again, (times, d)."""
    commands = [gate.check(asked.astype(np.float32), state=state, age_s=0.0).command for _ in range(times)]
    return np.stack(commands).astype(np.float64)


@pytest.mark.parametrize("end", [LOW, HIGH], ids=["low", "high"])
def test_a_share_of_the_range_stays_free_at_both_ends(end: np.ndarray) -> None:
    gate = Gate(CONTRACT, replace(MOTION, margin=0.1), where=HOME)
    commands = sent(gate, end, 200)
    free = 0.1 * (HIGH - LOW)
    assert (commands >= LOW + free).all()
    assert (commands <= HIGH - free).all()
    np.testing.assert_allclose(commands[-1], np.clip(end, LOW + free, HIGH - free), atol=1e-5)
    assert set(gate.gated) >= {"position"}


@pytest.mark.parametrize("side", [-1, 1])
def test_an_arm_that_stands_outside_of_either_end_is_refused(side: int) -> None:
    with pytest.raises(ContractError, match=r"elbow stands at -?2\.5, outside of -2 to 2"):
        Gate(CONTRACT, MOTION, where=np.array([side * 2.5, 0.03], np.float32))


def test_who_has_come_to_rest_goes_on_from_there() -> None:
    """And not from what was asked for before: what is allowed passes at once."""
    gate = Gate(CONTRACT, MOTION, where=HOME)
    sent(gate, LOW, 20)
    while gate.moving:
        gate.rest()
    asked = (gate.sent + np.float32([-0.003, 0.0005])).astype(np.float32)
    verdict = gate.check(asked, state=HOME, age_s=0.0)
    assert not verdict.reasons
    assert np.array_equal(verdict.command, asked)


def test_what_nothing_measures_is_moved_and_deviates_from_nothing() -> None:
    blind = replace(CONTRACT, state=CONTRACT.state[:1])
    gate = Gate(blind, replace(MOTION, deviation=0.01), where=HOME[:1], before=HOME)
    asked = np.array([0.5, 0.07])
    commands = sent(gate, asked, 60, state=HOME[:1])
    np.testing.assert_allclose(commands[-1], asked, atol=1e-6)
    assert "deviation" not in gate.gated


@pytest.mark.parametrize("jerk", [np.inf, 100.0])
def test_at_the_rate_of_the_servos_it_is_as_fast_as_at_that_of_the_policy(jerk: float) -> None:
    """In a second, and not in a step."""
    ways = []
    for servo_hz in (50.0, 250.0):
        gate = Gate(CONTRACT, replace(MOTION, jerk=jerk, servo_hz=servo_hz), where=HOME)
        way = np.concatenate([[HOME] * 3, sent(gate, LOW, round(0.8 * servo_hz))])
        speed = np.diff(way, axis=0) * servo_hz
        acceleration = np.diff(speed, axis=0) * servo_hz
        assert (np.abs(speed) <= MOTION.speed).all()
        assert (np.abs(acceleration) <= MOTION.acceleration).all()
        assert (np.abs(np.diff(acceleration, axis=0)) * servo_hz <= jerk).all()
        ways.append(way[-1])
    np.testing.assert_allclose(ways[0], ways[1], atol=0.06)


def test_what_is_allowed_in_itself_does_not_go_through_the_wall() -> None:
    """Slow enough for every joint, so that none but the workspace has anything against it."""

    def forward(commands: np.ndarray) -> np.ndarray:
        x = commands[:, 0] + 10 * commands[:, 1]
        return np.stack([x, 0 * x, 0 * x], axis=1)

    box = Workspace(forward=forward, low_m=(-3.0, -1.0, -1.0), high_m=(1.0, 1.0, 1.0))  # it stands at 0.8
    motion = replace(MOTION, speed=(2.0, 0.05), workspace=box)  # so that the ends of its range are far for the gripper
    gate, asked = Gate(CONTRACT, motion, where=HOME), HOME.astype(np.float64)
    places, passed = [HOME], 0
    for step in range(200):
        asked = np.minimum(asked + np.array([0.004, 0.0002]) * min(1.0, step / 20), HIGH)
        verdict = gate.check(asked.astype(np.float32), state=places[-1], age_s=0.0)
        passed += not verdict.reasons
        places.append(verdict.command)
    x = forward(np.stack(places).astype(np.float64))[:, 0]
    assert passed > 20
    assert gate.gated["workspace"] > 20
    assert x.max() <= 1.001
    assert x[-1] > 0.98  # and it is not far from it
    assert (np.abs(np.diff(np.stack(places).astype(np.float64), axis=0)) * 50 <= motion.speed).all()
