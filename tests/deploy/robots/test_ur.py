"""A UR behind a peer that speaks RTDE is driven by name, and whatever stops it is said and is final."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.deploy.robots.going import Going, drive
from tests.deploy.robots.rtde_peer import HOME, Peer
from vla.core.errors import ConfigError, RobotError
from vla.core.machine.packages import MissingPackageError
from vla.deploy.control.loop import Step
from vla.deploy.robots.robot import check_robot
from vla.deploy.robots.table import make_robot
from vla.deploy.robots.ur import JOINTS, UrRobot
from vla.policies.acting import by_name

pytest.importorskip("rtde_receive", reason="needs the extra ur")

SETTINGS: dict[str, Any] = {
    "control_hz": 20,
    "motion": {"stale_s": 5.0, "servo_hz": 60.0},
    "stale_s": 1.0,
    "watchdog_s": 1.0,  # of a machine that does other things as well
}
POSE = dict(zip(JOINTS, (0.1, -1.5, 1.5, -1.7, -1.55, 0.0), strict=True))
ORDERS = [JOINTS, tuple(JOINTS[i] for i in (4, 2, 0, 5, 1, 3))]


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
def robot(peer: Peer) -> Iterator[UrRobot]:
    robot = robot_of(peer)
    yield robot
    robot.close()


def robot_of(peer: Peer, **changes: Any) -> UrRobot:
    robot = make_robot("ur", {**SETTINGS, "host": peer.host, **changes})
    assert isinstance(robot, UrRobot)
    return robot


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def by_joint(values: Sequence[float], order: Sequence[str] = JOINTS) -> dict[str, float]:
    return dict(zip(order, values, strict=True))


def test_it_keeps_what_every_robot_promises(peer: Peer, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="needs the extra robot")
    cv2.imwrite(str(tmp_path / "0.png"), np.full((16, 24, 3), (0, 0, 200), np.uint8))
    view = {"kind": "files", "source": str(tmp_path), "height": 16, "width": 24, "most_s": 5.0}
    robot = robot_of(peer, cameras={"wrist": view})
    assert (robot.observe().images["wrist"] == [200, 0, 0]).all()
    assert peer.q == list(HOME)
    check_robot(robot)
    assert peer.heard == ["set_watchdog", "servo_stop", "stop_script"]
    assert (peer.programs, peer.runtime, peer.complaints) == (1, 1, [])
    until(lambda: peer.connections == 0)
    assert "camera-wrist" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(RobotError, match="it is closed"):
        robot.measure()


@pytest.mark.parametrize("order", ORDERS)
def test_a_loop_drives_it_by_name(peer: Peer, order: tuple[str, ...]) -> None:
    robot = robot_of(peer, joints={name: {} for name in order})
    assert [d.name for d in robot.contract.action] == list(order)
    drive(Going(robot.contract, POSE), robot, 9)
    until(lambda: by_joint(peer.q) == pytest.approx(POSE, abs=0.01))
    time.sleep(0.05)
    assert by_joint(robot.measure().tolist(), order) == pytest.approx(POSE, abs=0.02)
    steps = np.diff(np.array(peer.servoed)[:, :6], axis=0)
    assert np.abs(steps).max() <= np.pi / 60 + 1e-6  # the gate was in between
    assert (np.array(peer.servoed)[:, 6:] == [1 / 60, 0.1, 300.0]).all()
    robot.close()
    assert not peer.complaints


def test_a_policy_in_another_order_drives_the_same(peer: Peer, robot: UrRobot) -> None:
    own = robot.contract
    places = [JOINTS.index(name) for name in ORDERS[1]]
    turned = replace(own, state=tuple(own.state[i] for i in places), action=tuple(own.action[i] for i in places))
    drive(by_name(Going(turned, POSE), own), robot, 9)
    until(lambda: by_joint(peer.q) == pytest.approx(POSE, abs=0.01))


def test_names_may_be_others_here(peer: Peer) -> None:
    names = ["pan", "lift", "elbow", "w1", "w2", "w3"]
    joints = {n: {"ur": ur, "low": -3.0, "high": 3.0} for n, ur in zip(names, JOINTS, strict=True)}
    robot = robot_of(peer, joints={n: joints[n] for n in reversed(names)}, lookahead_s=0.05, gain=500.0)
    first = robot.contract.state[0]
    assert (first.name, first.low, first.high) == ("w3", -3.0, 3.0)
    assert robot.measure().tolist() == pytest.approx(HOME[::-1])
    robot.command(np.array(HOME[::-1], np.float32) + 0.1)
    until(lambda: bool(peer.servoed))
    assert peer.servoed[-1][:6] == pytest.approx([at + 0.1 for at in HOME])
    assert peer.servoed[-1][7:] == (0.05, 500.0)
    robot.close()


STOPS: dict[str, tuple[Callable[[Peer], None], str]] = {
    "protective": (Peer.protective_stop, r"the UR at [\d.]+: a protective stop; .*unlock it on the pendant, and begin"),
    "emergency": (Peer.emergency_stop, r"the UR at [\d.]+: an emergency stop; release the button"),
    "program": (Peer.stop_program, r"the UR at [\d.]+: its program is stopped: somebody stopped it on the pendant"),
    "power": (lambda peer: setattr(peer, "mode", 3), r"it is powered off; on the pendant switch it on and release"),
    "cut": (lambda peer: peer.cut(reset=False), r"the connection broke.*\(ur_rtde says: .*connect anew"),
    "reset": (lambda peer: peer.cut(reset=True), r"the connection broke.*\(ur_rtde says: .*connect anew"),
    "commands": (
        lambda peer: peer.cut(reset=False, commands_alone=True),
        r"(its program is|the connection broke|does not take commands|did not answer within 1 s).*\(ur_rtde says: RTDE",
    ),
}


@pytest.mark.parametrize(("stop", "message"), STOPS.values(), ids=STOPS)
def test_what_stops_it_is_said_at_once_and_is_final(
    peer: Peer, robot: UrRobot, stop: Callable[[Peer], None], message: str
) -> None:
    steps: list[Step] = []
    stopped_s = 0.0

    def on_step(step: Step) -> None:
        nonlocal stopped_s
        steps.append(step)
        if len(steps) == 3:
            stop(peer)
            stopped_s = time.monotonic()

    with pytest.raises(RobotError, match=message):
        drive(Going(robot.contract, POSE), robot, 200, on_step)
    assert time.monotonic() < stopped_s + 3.0
    time.sleep(0.1)
    sent, where = len(peer.servoed), peer.q
    peer.mode, peer.safety, peer.runtime = 7, 1, 2  # all is well again
    time.sleep(0.1)
    for again in (lambda: robot.command(np.zeros(6, np.float32)), robot.measure):
        with pytest.raises(RobotError, match=message):
            again()
    robot.close()
    until(lambda: peer.connections == 0)
    assert len(peer.servoed) == sent
    assert peer.q == pytest.approx(where, abs=0.05)  # it may reach what was its target before


def test_a_stop_that_is_over_before_it_is_asked_for_is_final(peer: Peer, robot: UrRobot) -> None:
    robot.command(np.array(HOME, np.float32))
    until(lambda: len(peer.servoed) == 1)
    peer.runtime = 1
    time.sleep(0.2)
    peer.runtime = 2
    time.sleep(0.1)
    with pytest.raises(RobotError, match="its program is stopped"):
        robot.command(np.array(HOME, np.float32) + 0.1)
    assert len(peer.servoed) == 1


def test_silence_ends_the_drive_at_rest(peer: Peer) -> None:
    robot = robot_of(peer, stale_s=0.3, watchdog_s=0.5)
    steps: list[Step] = []

    def on_step(step: Step) -> None:
        steps.append(step)
        if len(steps) == 3:
            peer.silent.set()

    began_s = time.monotonic()
    with pytest.raises(RobotError, match=r"the UR at [\d.]+ has told nothing for 0\.\d+ s, though it is connected"):
        drive(Going(robot.contract, POSE), robot, 200, on_step)
    assert time.monotonic() < began_s + 3.0
    np.testing.assert_allclose(peer.servoed[-1][:6], peer.servoed[-2][:6], atol=1e-6)  # it was brought to rest
    assert peer.runtime == 2
    robot.close()
    until(lambda: peer.runtime == 1)
    assert peer.heard == ["set_watchdog", "watchdog"]


def test_where_ur_rtde_dies_that_is_said_and_the_watchdog_stops_the_arm(peer: Peer, robot: UrRobot) -> None:
    robot.command(np.array(HOME, np.float32) + 0.1)
    os.kill(robot._process.pid or 0, signal.SIGKILL)
    with pytest.raises(RobotError, match=r"ur_rtde's process died \(signal 9\).* stops it 1 s after the last sign"):
        robot.measure()
    until(lambda: "watchdog" in peer.heard)
    assert peer.runtime == 1


def test_one_that_hangs_is_not_waited_for(peer: Peer) -> None:
    robot = robot_of(peer, stale_s=0.3)
    os.kill(robot._process.pid or 0, signal.SIGSTOP)
    began_s = time.monotonic()
    with pytest.raises(RobotError, match=r"ur_rtde did not answer within 0\.3 s"):
        robot.measure()
    assert time.monotonic() < began_s + 2.0
    robot._process.join(2.0)
    assert not robot._process.is_alive()  # it might go on, and give the program signs
    with pytest.raises(RobotError, match=r"ur_rtde did not answer within 0\.3 s"):
        robot.measure()
    robot.close()


def test_waiting_does_not_trip_the_watchdog(peer: Peer) -> None:
    robot = robot_of(peer, watchdog_s=0.3, stale_s=0.5)
    assert peer.watchdog_s == pytest.approx(0.3)
    robot.command(np.array(HOME, np.float32))
    time.sleep(0.6)
    robot.measure()
    assert (peer.heard, peer.runtime, peer.servoing) == (["set_watchdog"], 2, True)
    robot.close()


def test_a_program_that_runs_is_replaced(peer: Peer) -> None:
    peer.runtime = 2
    robot = robot_of(peer)
    assert peer.programs == 1
    robot.close()


def locked(peer: Peer) -> None:
    peer.remote = False


def used(peer: Peer) -> None:
    peer.claimed = {"input_double_register_3"}


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (Peer.protective_stop, "a protective stop"),
        (lambda peer: setattr(peer, "mode", 5), "it is idle, its brakes closed"),
        (locked, "enable remote control"),
        (used, "input registers are already in use"),
    ],
)
def test_one_that_cannot_be_driven_is_not_begun_with(peer: Peer, prepare: Callable[[Peer], None], message: str) -> None:
    prepare(peer)
    with pytest.raises(RobotError, match=message):
        robot_of(peer)
    assert not peer.programs
    assert not peer.servoed


def test_one_that_says_nothing_is_not_waited_for(peer: Peer) -> None:
    peer.silent.set()
    began_s = time.monotonic()
    with pytest.raises(RobotError, match=r"ur_rtde did not answer within 0\.5 s"):
        robot_of(peer, connect_s=0.5)
    assert time.monotonic() < began_s + 4.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": {JOINTS[0]: {}}}, "expected each of shoulder_pan_joint, .* once"),
        ({"joints": {**{j: {} for j in JOINTS}, JOINTS[1]: {"ur": JOINTS[0]}}}, "expected each of"),
        ({"joints": {**{j: {} for j in JOINTS}, JOINTS[1]: {"max": 1.0}}}, r"joints\.shoulder_lift_joint.*max"),
        ({"lookahead_s": 0.01}, r"lookahead_s=0\.01: expected 0\.03 to 0\.2"),
        ({"gain": float("nan")}, "gain=nan: expected 100 to 2000"),
        ({"watchdog_s": 0.0}, r"watchdog_s=0\.0: expected"),
        ({"motion": {"sped": 1.0}}, "motion: unknown key 'sped'"),
        ({"cameras": {"wrist": {"topic": "/x"}}}, r"cameras\.wrist.*topic"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_robot("ur", {**SETTINGS, "host": "127.255.0.1", **change})


def test_where_nobody_listens_is_said() -> None:
    with pytest.raises(RobotError, match=r"the UR at 127\.255\.0\.1: the dashboard \(port 29999\) cannot be reached"):
        make_robot("ur", {**SETTINGS, "host": "127.255.0.1"})


def test_a_port_that_is_closed_is_named() -> None:
    with (
        socket.create_server(("127.255.0.2", 29999)),
        socket.create_server(("127.255.0.2", 30003)),
        pytest.raises(RobotError, match=r"RTDE \(port 30004\) cannot be reached .* security, services"),
    ):
        make_robot("ur", {**SETTINGS, "host": "127.255.0.2"})


def test_without_ur_rtde_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rtde_control", None)
    with pytest.raises(MissingPackageError, match=r"the UR robot.*pip install 'vla\[ur\]'"):
        make_robot("ur", {**SETTINGS, "host": "127.255.0.1"})
