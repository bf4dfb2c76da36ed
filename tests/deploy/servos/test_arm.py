"""Each fault of a bus ends in another try, in going on with less, or in a stop that names servo and cause."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from vla.core.errors import RobotError
from vla.deploy.emulators.build import EmulatorConfig
from vla.deploy.emulators.process import EmulatorProcess
from vla.deploy.servos.arm import Arm, Patience
from vla.deploy.servos.bus import Bus
from vla.deploy.servos.description import Description, Joint
from vla.deploy.servos.dynamixel import DynamixelBus
from vla.deploy.servos.feetech import FeetechBus

pytest.importorskip("dynamixel_sdk", reason="needs the extra robot")
BUSES: dict[str, Callable[..., Bus]] = {"dynamixel": DynamixelBus, "feetech": FeetechBus}
NAMES = ("shoulder", "elbow", "wrist")
PERIOD_S = 0.02
PATIENT = Patience(silent_s=3.0, watchdog_s=2.0)
"""Other programs of this machine may keep ours from running for a while."""


@pytest.fixture(scope="module", params=BUSES)
def emulator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    link = tmp_path_factory.mktemp("line") / "ttyARM"  # a name that stays when it is unplugged and plugged in
    emulator = EmulatorProcess(EmulatorConfig(protocol=request.param, servos=3, link=link))
    emulator.protocol = request.param  # type: ignore[attr-defined]
    yield emulator
    emulator.close()


def connect(emulator: Any, patience: Patience = PATIENT) -> Arm:
    protocol = emulator.protocol
    joints = {name: Joint(id=i + 1, low=-3.0, high=3.0) for i, name in enumerate(NAMES)}
    description = Description(robot="three", bus=protocol, joints=joints)
    return Arm(description, BUSES[protocol](emulator.device), patience=patience, period_s=PERIOD_S)


@pytest.fixture
def arm(emulator: EmulatorProcess) -> Iterator[Arm]:
    emulator.control.clear()
    for identifier in (1, 2, 3):
        emulator.control.fault(f"brownout:{identifier}")  # what an earlier test has left behind
    time.sleep(0.5)
    arm = connect(emulator)
    yield arm
    emulator.control.clear()
    arm.close()


def drive(arm: Arm, seconds: float) -> None:
    hold = arm.read()
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s:
        arm.read()
        arm.send(hold)
        time.sleep(PERIOD_S)


def test_it_goes_where_it_is_told(arm: Arm) -> None:
    start = arm.read()
    for share in np.linspace(0, 1, 30):
        arm.send((start + share * np.array([0.3, 0.0, -0.2])).astype(np.float32))
        time.sleep(PERIOD_S)
    time.sleep(0.3)
    np.testing.assert_allclose(arm.read() - start, [0.3, 0.0, -0.2], atol=0.01)
    assert set(arm.faults) <= {"retried", "silent"}  # a busy machine


@pytest.mark.parametrize("fault", ["drop=0.003", "corrupt=0.003"])
def test_lost_and_harmed_bytes_cost_another_try(emulator: EmulatorProcess, arm: Arm, fault: str) -> None:
    start = arm.read()
    emulator.control.fault(fault)
    ends_s = time.monotonic() + 20
    while not arm.faults["retried"] and time.monotonic() < ends_s:
        drive(arm, 0.2)
    assert arm.faults["retried"] > 0
    emulator.control.clear()
    np.testing.assert_allclose(arm.read(), start, atol=0.02)


def test_a_servo_may_be_silent_for_a_moment(
    emulator: EmulatorProcess, arm: Arm, caplog: pytest.LogCaptureFixture
) -> None:
    start = arm.read()
    emulator.control.fault("silent:2+0.3s")
    drive(arm, 0.6)
    ends_s = time.monotonic() + 5
    while "answers again" not in caplog.text and time.monotonic() < ends_s:
        drive(arm, 0.1)
    assert arm.faults["silent"] > 0
    assert "servo elbow (id 2) does not answer; its last position is taken" in caplog.text
    assert "servo elbow (id 2) answers again" in caplog.text
    np.testing.assert_allclose(arm.read(), start, atol=0.02)


STOPS = {
    "silent:2": r"servo elbow \(id 2\) has not answered for .* s; check its cable and its power",
    "silent": r"servo shoulder \(id 1\) has not answered for .*, nor has any other; check the adapter",
    "overload:2": r"servo elbow \(id 2\) has switched itself off: overload; free the arm",
    "overheat:2=100": r"servo elbow \(id 2\) has switched itself off: overheating",
    "watchdog:2": r"servo elbow \(id 2\) has stopped by itself: its watchdog heard nothing",
    "brownout:2": r"servo elbow \(id 2\) has no torque any more: it has restarted",
    "unplug+0.2s": r"the bus .* is gone .*was it unplugged",
}


@pytest.mark.parametrize("fault", STOPS)
def test_what_cannot_be_survived_stops_the_arm(emulator: EmulatorProcess, arm: Arm, fault: str) -> None:
    if fault == "watchdog:2" and emulator.protocol == "feetech":  # type: ignore[attr-defined]
        with pytest.raises(RobotError, match="these servos have no watchdog"):
            emulator.control.fault(fault)
        return
    drive(arm, 0.1)
    emulator.control.fault(fault)
    with pytest.raises(RobotError, match=STOPS[fault]):
        drive(arm, 30.0)
    time.sleep(0.3)


def test_one_that_answers_late_is_named_and_keeps_nobody_else(
    emulator: EmulatorProcess, arm: Arm, caplog: pytest.LogCaptureFixture
) -> None:
    """What comes too late is not taken for the answer to another question."""
    start = arm.read()
    emulator.control.fault("slow:2=30ms")
    drive(arm, 1.0)
    np.testing.assert_allclose(arm.read(), start, atol=0.02)
    assert "servo elbow (id 2) does not answer" in caplog.text
    assert arm.faults["retried"] > 5 or arm.faults["silent"] > 5


def _turn(arm: Arm, start: np.ndarray) -> None:
    for step in range(300):
        arm.send((start + np.array([0.004 * step, 0, 0])).astype(np.float32))
        time.sleep(PERIOD_S)


def test_the_others_hold_when_one_fails(emulator: EmulatorProcess, arm: Arm) -> None:
    """They were on their way, and stay where they are."""
    start = arm.read()
    drive(arm, 0.1)
    emulator.control.fault("overload:2")
    with pytest.raises(RobotError, match="overload"):
        _turn(arm, start)
    time.sleep(0.3)
    stopped = arm.read()
    time.sleep(0.5)
    np.testing.assert_allclose(arm.read()[[0, 2]], stopped[[0, 2]], atol=0.01)


def test_one_that_gets_hot_is_said_before_it_stops(
    emulator: EmulatorProcess, arm: Arm, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.control.fault("overheat:2=20")
    with pytest.raises(RobotError, match="overheating"):
        drive(arm, 30.0)
    assert arm.faults["hot"] > 0
    assert "servo elbow (id 2) is at" in caplog.text


def test_servos_stop_by_themselves_when_the_line_is_cut(emulator: EmulatorProcess) -> None:
    """The second layer: whatever becomes of the program, register 98 stops Dynamixel servos."""
    if emulator.protocol != "dynamixel":  # type: ignore[attr-defined]
        pytest.skip("Feetech STS servos have no watchdog")
    emulator.control.clear()
    for identifier in (1, 2, 3):
        emulator.control.fault(f"brownout:{identifier}")
    time.sleep(0.5)
    arm = connect(emulator, Patience(silent_s=3.0, watchdog_s=0.2))
    arm.send(arm.read())
    emulator.control.fault("unplug+0.5s")
    time.sleep(1.0)
    with pytest.raises(RobotError, match="is gone"):
        arm.read()
    arm.close()
    bus = DynamixelBus(emulator.device)
    health = [next(h for _ in range(5) if (h := bus.health(i)) is not None) for i in (1, 2, 3)]
    bus.close()
    assert all(h.watchdog and h.torque for h in health)


def test_closing_it_leaves_it_holding_without_a_watchdog(emulator: EmulatorProcess, arm: Arm) -> None:
    arm.send((arm.read() + np.float32(0.2)).astype(np.float32))
    arm.close()
    arm.close()
    time.sleep(2.5)  # longer than its watchdog
    bus = BUSES[emulator.protocol](emulator.device)  # type: ignore[attr-defined]
    health = [next(h for _ in range(5) if (h := bus.health(i)) is not None) for i in (1, 2, 3)]
    bus.close()
    assert all(h.torque and not h.watchdog and not h.alarms for h in health)


def test_servos_that_are_not_there_are_named(emulator: EmulatorProcess) -> None:
    emulator.control.clear()
    emulator.control.fault("silent:3+3s")
    with pytest.raises(RobotError, match=r"servo wrist \(id 3\) does not answer; check power"):
        connect(emulator)
    emulator.control.clear()


def test_a_port_that_is_not_there_is_said() -> None:
    for bus in BUSES.values():
        with pytest.raises(RobotError, match="/dev/ttyNOWHERE cannot be opened"):
            bus("/dev/ttyNOWHERE")
