"""The gate keeps its promises whatever is asked, and does nothing where nothing is wrong."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.deploy.robots.hostile_commands import DRIVERS, Course
from vla.core.contract import Contract, Dimension
from vla.core.errors import ConfigError, ContractError
from vla.deploy.robots.gate import Gate
from vla.deploy.robots.motion import Motion, Workspace

JOINTS = (("shoulder", "rad", -2.9, 2.9), ("elbow", "rad", -3.07, -0.07), ("gripper", "m", 0.0, 0.08))
MOTION = Motion(speed=(2.0, 3.0, 0.5), acceleration=(10.0, 4.0, 2.0))
SMOOTH = replace(MOTION, jerk=(60.0, 100.0, 30.0))
HOME = np.array([0.0, -1.5, 0.04], np.float32)
LOW, HIGH = (np.array([joint[i] for joint in JOINTS]) for i in (2, 3))
COURSE = Course(low=LOW, high=HIGH, home=HOME, motion=MOTION, hz=50.0)


def _contract(hz: float = 50.0) -> Contract:
    dimensions = tuple(Dimension(name=n, unit=unit, low=low, high=high) for n, unit, low, high in JOINTS)
    return Contract(robot="arm", cameras=(), state=dimensions, action=dimensions, control_hz=hz)


def _gate(motion: Motion = MOTION, hz: float = 50.0) -> Gate:
    return Gate(_contract(hz), motion, where=HOME)


def _keeps_its_promises(gate: Gate, motion: Motion, hz: float, driver: Iterator[Any], steps: int) -> None:
    sent = np.empty((steps + 3, 3))
    sent[:3] = HOME
    for i in range(steps):
        sent[i + 3] = gate.check(next(driver), state=sent[i + 2].astype(np.float32), age_s=0.0).command
    assert (sent >= LOW).all()
    assert (sent <= HIGH).all()
    speed = np.diff(sent, axis=0) * hz
    assert (np.abs(speed) <= np.asarray(motion.speed)).all()
    acceleration = np.diff(speed, axis=0) * hz
    assert (np.abs(acceleration) <= np.asarray(motion.acceleration)).all()
    assert (np.abs(np.diff(acceleration, axis=0)) * hz <= np.asarray(motion.jerk)).all()


@pytest.mark.parametrize("motion", [MOTION, SMOOTH], ids=["plain", "smooth"])
@pytest.mark.parametrize("name", DRIVERS)
def test_no_command_breaks_a_promise(name: str, motion: Motion) -> None:
    rng = np.random.default_rng(0)
    _keeps_its_promises(_gate(motion), motion, 50.0, DRIVERS[name](rng, COURSE), 600)


@pytest.mark.long
@pytest.mark.parametrize("name", DRIVERS)
def test_a_million_commands_break_none(name: str) -> None:
    for motion in (MOTION, SMOOTH):
        _keeps_its_promises(_gate(motion), motion, 50.0, DRIVERS[name](np.random.default_rng(1), COURSE), 125_000)


@given(
    speed=st.floats(0.1, 20),
    acceleration=st.floats(1, 500),
    jerk=st.sampled_from([2.0, 10.0, 1000.0, np.inf]),
    hz=st.sampled_from([5.0, 10.0, 50.0, 200.0]),
    margin=st.floats(0, 0.4),
    seed=st.integers(0, 99),
    name=st.sampled_from(list(DRIVERS)),
)
def test_whatever_the_robot_and_its_rate(
    speed: float, acceleration: float, jerk: float, hz: float, margin: float, seed: int, name: str
) -> None:
    """``jerk`` counts accelerations in a second: a robot that needs longer than half of one is none."""
    motion = Motion(speed=speed, acceleration=acceleration, jerk=max(jerk * acceleration, 50.0), margin=margin)
    _keeps_its_promises(_gate(motion, hz), motion, hz, DRIVERS[name](np.random.default_rng(seed), COURSE), 60)


@pytest.mark.parametrize("motion", [MOTION, SMOOTH], ids=["plain", "smooth"])
def test_what_is_allowed_passes_to_the_last_bit(motion: Motion) -> None:
    gate, time = _gate(motion), np.arange(400) / 50
    wave = HOME + np.array([0.5, 0.3, 0.015]) * (time - np.sin(time))[:, None] / 4  # at rest when it begins
    for command in wave.astype(np.float32):
        verdict = gate.check(command, state=HOME, age_s=0.0)
        assert np.array_equal(verdict.command, command)
        assert not verdict.reasons
    assert not gate.gated


def test_the_ends_of_the_range_are_reached_and_are_no_fault() -> None:
    gate = _gate()
    for end in (LOW, HIGH):
        for _ in range(300):
            verdict = gate.check(end.astype(np.float32), state=HOME, age_s=0.0)
        np.testing.assert_allclose(verdict.command, end, atol=1e-5)
        assert not verdict.reasons


def test_a_far_target_is_approached_as_fast_as_allowed_and_the_reason_named() -> None:
    gate = _gate()
    asked = np.array([2.0, -1.5, 0.04], np.float32)
    verdict = gate.check(asked, state=HOME, age_s=0.0)
    assert verdict.reasons.keys() >= {"speed", "acceleration"}
    assert set(verdict.reasons.values()) == {("shoulder",)}
    assert verdict.command[0] == pytest.approx(10.0 / 50 / 50, rel=1e-3)
    assert np.array_equal(verdict.command[1:], asked[1:])
    places = [gate.check(asked, state=HOME, age_s=0.0).command[0] for _ in range(75)]
    assert np.array_equal(gate.check(asked, state=HOME, age_s=0.0).command, asked)
    assert max(places) <= asked[0] + 1e-5  # never beyond
    there = next(i for i, place in enumerate(places) if place > asked[0] - 1e-3)
    assert there == pytest.approx(50 * (2.0 / 2.0 + 2.0 / 10.0), abs=3)  # at full speed, and both ramps


def test_a_command_a_little_too_hard_costs_a_little() -> None:
    """What goes on as it was asked is caught up with, without a detour."""
    gate, at, speed = _gate(), HOME.astype(np.float64), 0.0
    behind = []
    for step in range(75):
        speed = min(1.5, speed + 0.2 * (1.3 if step % 10 == 3 else 0.5))  # 10 rad/s² are 0.2 a step
        at = at + np.array([speed / 50, 0, 0])
        sent = gate.check(at.astype(np.float32), state=HOME, age_s=0.0).command
        behind.append(at[0] - sent[0])
    assert 0 < max(behind) < 0.004
    assert behind[-1] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("asked", "age_s", "reason"),
    [
        (None, 0.0, "shape"),
        (np.zeros(2, np.float32), 0.0, "shape"),
        (np.zeros(3, int), 0.0, "shape"),
        (np.array([0, np.nan, 0], np.float32), 0.0, "finite"),
        (HOME, 2.1, "stale"),
        (HOME, float("nan"), "stale"),
        (HOME, -0.1, "stale"),
    ],
)
def test_what_is_no_command_comes_to_rest(asked: Any, age_s: float, reason: str) -> None:
    gate = _gate()
    for _ in range(40):
        gate.check(HIGH.astype(np.float32), state=HOME, age_s=0.0)
    places = [gate.check(asked, state=HOME, age_s=age_s) for _ in range(60)]
    assert all(reason in verdict.reasons for verdict in places)
    assert places[0].reasons[reason] == (("elbow",) if reason == "finite" else tuple(j[0] for j in JOINTS))
    assert np.array_equal(places[-1].command, places[-2].command)
    assert gate.gated[reason] == 60


def test_with_a_limited_jerk_a_far_target_is_reached_and_not_passed() -> None:
    gate = _gate(SMOOTH)
    asked = np.array([2.0, -0.5, 0.01], np.float32)
    places = np.stack([gate.check(asked, state=HOME, age_s=0.0).command for _ in range(250)])
    assert {"speed", "acceleration", "jerk"} <= gate.gated.keys()
    np.testing.assert_allclose(places[-1], asked, atol=1e-6)
    beyond = (places - asked) * np.sign(asked - HOME)
    assert beyond.max() < 0.004 * 2.0  # within what a step's speed is good to
    there = next(i for i, place in enumerate(places[:, 0]) if place > asked[0] - 0.01)
    fastest = 2.0 / 2.0 + 2.0 / 10.0 + 10.0 / 60.0  # way, ramps of the speed, ramps of the acceleration
    assert there / 50 == pytest.approx(fastest, abs=0.15)
    assert not gate.moving


@pytest.mark.parametrize("motion", [MOTION, SMOOTH], ids=["plain", "smooth"])
def test_at_rest_is_where_it_stays(motion: Motion) -> None:
    gate = _gate(motion)
    assert not gate.moving
    for _ in range(20):
        gate.check(HIGH.astype(np.float32), state=HOME, age_s=0.0)
    assert gate.moving
    steps = 0
    while gate.moving:
        last, steps = gate.rest().command, steps + 1
    assert steps < 60
    assert np.array_equal(gate.rest().command, last)
    assert "stopped" not in gate.gated


def _planar(commands: np.ndarray) -> np.ndarray:
    """Two links of 0.4 m in a plane; the gripper does not move the tool."""
    shoulder, elbow = commands[:, 0], commands[:, 1]
    x = 0.4 * np.cos(shoulder) + 0.4 * np.cos(shoulder + elbow)
    y = 0.4 * np.sin(shoulder) + 0.4 * np.sin(shoulder + elbow)
    return np.stack([x, y, np.zeros_like(x)], axis=1)


BOX = Workspace(forward=_planar, low_m=(0.2, -0.6, -0.1), high_m=(0.7, 0.25, 0.1))


@pytest.mark.parametrize("motion", [MOTION, SMOOTH], ids=["plain", "smooth"])
@pytest.mark.parametrize("name", ["random", "bang", "walk"])
def test_the_tool_does_not_leave_its_box(name: str, motion: Motion) -> None:
    motion = replace(motion, workspace=BOX)
    gate, driver, sent = _gate(motion), DRIVERS[name](np.random.default_rng(3), COURSE), [HOME]
    for _ in range(250):
        sent.append(gate.check(next(driver), state=sent[-1], age_s=0.0).command)
    places = _planar(np.stack(sent).astype(np.float64))
    # Between two places that are looked at, a joint at 3 rad/s with a reach of 0.8 m goes on for a little.
    assert (places >= np.array(BOX.low_m) - 2e-3).all()
    assert (places <= np.array(BOX.high_m) + 2e-3).all()
    assert gate.gated["workspace"] > 10
    assert len(np.unique(places.round(2), axis=0)) > 10  # it is not stuck
    _keeps_its_promises(_gate(motion), motion, 50.0, DRIVERS[name](np.random.default_rng(4), COURSE), 80)


@pytest.mark.parametrize("acceleration", [(8.0, 2.0, 2.0), (20.0, 1.0, 2.0), (1.0, 30.0, 2.0)])
@pytest.mark.parametrize("jerk", [np.inf, 100.0])
def test_joints_that_brake_differently_stay_in_the_box_together(acceleration: tuple[float, ...], jerk: float) -> None:
    def forward(commands: np.ndarray) -> np.ndarray:
        x = commands[:, 0] + commands[:, 1] + 1.5
        return np.stack([x, np.zeros_like(x), np.zeros_like(x)], axis=1)

    box = Workspace(forward=forward, low_m=(-0.3, -1.0, -1.0), high_m=(0.3, 1.0, 1.0))
    gate = _gate(replace(MOTION, acceleration=acceleration, jerk=jerk, workspace=box))
    rng, sent = np.random.default_rng(5), [HOME]
    while len(sent) < 300:
        asked = np.where(rng.random(3) < 0.5, LOW, HIGH).astype(np.float32)
        sent += [gate.check(asked, state=sent[-1], age_s=0.0).command for _ in range(int(rng.integers(1, 40)))]
    assert np.abs(forward(np.stack(sent).astype(np.float64))[:, 0]).max() < 0.302


def test_the_first_command_is_no_faster_than_any_other() -> None:
    """An arm that is measured outside is refused, unless a step brings it inside."""
    for beyond, refused in ((0.04, False), (0.5, True)):
        where = np.array([2.9 + beyond, -1.5, 0.04], np.float32)
        if refused:
            with pytest.raises(ContractError, match=r"shoulder stands at 3\.4, outside"):
                _ = _gate_at(where)
        else:
            sent = _gate_at(where).check(where, state=where, age_s=0.0).command
            assert abs(sent[0] - where[0]) <= 2.0 / 50 + 0.01 * 5.8


def _gate_at(where: np.ndarray) -> Gate:
    return Gate(_contract(), MOTION, where=where)


def test_what_no_state_measures_stays_where_it_was_sent() -> None:
    contract = _contract()
    blind = replace(contract, state=contract.state[:2])
    gate = Gate(blind, MOTION, where=HOME[:2], before=np.array([0, 0, 0.01], np.float32))
    assert gate.sent[2] == np.float32(0.01)
    assert Gate(blind, MOTION, where=HOME[:2]).sent[2] == pytest.approx(0.04)


def test_an_arm_whose_tool_is_outside_of_its_box_is_refused() -> None:
    with pytest.raises(ContractError, match=r"its tool is at \(0\.799, -0\.028, 0\.000\) m, outside of the workspace"):
        Gate(_contract(), replace(MOTION, workspace=BOX), where=np.array([0, -0.07, 0.04], np.float32))


def test_a_stop_holds_until_it_is_released() -> None:
    gate = _gate()
    gate.stop()
    asked = (HOME + 0.0005).astype(np.float32)
    assert gate.check(asked, state=HOME, age_s=0.0).reasons == {"stopped": ("shoulder", "elbow", "gripper")}
    assert np.array_equal(gate.check(asked, state=HOME, age_s=0.0).command, HOME)
    gate.release()
    assert np.array_equal(gate.check(asked, state=HOME, age_s=0.0).command, asked)


def test_a_target_stays_near_an_arm_that_does_not_follow() -> None:
    motion = Motion(speed=2.0, acceleration=10.0, deviation=0.1)
    gate = _gate(motion)
    for _ in range(200):
        verdict = gate.check(HIGH.astype(np.float32), state=HOME, age_s=0.0)
    assert "deviation" in verdict.reasons
    np.testing.assert_allclose(verdict.command, np.minimum(HOME + 0.1, HIGH), atol=1e-5)


def test_bad_motions_and_places_are_refused() -> None:
    for wrong, message in (
        ({"speed": 0.0}, "speed=0.0 must be positive"),
        ({"speed": (1.0, 2.0)}, "has 2 numbers, and an action 3"),
        ({"margin": 0.6}, "margin=0.6"),
        ({"acceleration": 1e-6}, "less than a float32 can say"),
    ):
        with pytest.raises(ConfigError, match=message):
            _gate(Motion(**{"speed": 1.0, "acceleration": 1.0, **wrong}))  # type: ignore[arg-type]
    with pytest.raises(ContractError, match=r"elbow stands at 9, outside of -3\.07 to -0\.07"):
        Gate(_contract(), MOTION, where=np.array([0, 9, 0], np.float32))
