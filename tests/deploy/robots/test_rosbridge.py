"""A robot behind a peer that speaks rosbridge is driven by name, and what goes wrong is said and ends at rest."""

import logging
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.deploy.robots.going import Going, drive
from tests.deploy.robots.rosbridge_peer import ARRAY_ORDER, NAMES, Peer
from vla.core.errors import ConfigError, RobotError
from vla.core.machine.packages import MissingPackageError
from vla.deploy.control.loop import Step
from vla.deploy.robots.robot import check_robot
from vla.deploy.robots.rosbridge import RosBridgeRobot
from vla.deploy.robots.table import make_robot

SETTINGS: dict[str, Any] = {
    "joints": {name: {"low": -2.0, "high": 2.0} for name in NAMES},
    "motion": {"speed": 3.0, "acceleration": 60.0, "stale_s": 5.0},
    "control_hz": 20,
    "command_topic": "/arm/joint_trajectory",
    "cameras": {"front": {"topic": "/camera/compressed", "height": 16, "width": 24, "stale_s": 5.0}},
    "stale_s": 2.0,
    "name": "bridged",
}
POSE = {"base": 0.5, "shoulder": -0.3, "elbow": 0.8}


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


def robot_of(peer: Peer, **changes: Any) -> RosBridgeRobot:
    robot = make_robot("rosbridge", {**SETTINGS, "port": peer.port, **changes})
    assert isinstance(robot, RosBridgeRobot)
    return robot


def test_it_keeps_what_every_robot_promises(peer: Peer) -> None:
    robot = robot_of(peer)
    seen = robot.observe()
    assert (seen.images["front"] == [200, 0, 0]).all()
    check_robot(robot)
    assert not peer.complaints
    expected = {"subscribe", "advertise", "publish", "unsubscribe", "unadvertise"}
    deadline = time.monotonic() + 10
    while {message["op"] for message in peer.heard} != expected and time.monotonic() < deadline:
        time.sleep(0.05)  # what was said last may still be on its way
    assert {message["op"] for message in peer.heard} == expected
    assert all(m["queue_length"] == 1 for m in peer.heard if m["op"] == "subscribe")


@pytest.mark.parametrize("order", [NAMES, ("elbow", "base", "shoulder")])
@pytest.mark.parametrize(
    "command",
    [
        {"command": "trajectory", "command_topic": "/arm/joint_trajectory"},
        {"command": "array", "command_topic": "/arm/commands", "order": ARRAY_ORDER},
    ],
)
def test_it_goes_where_it_is_told_by_name(peer: Peer, order: tuple[str, ...], command: dict[str, Any]) -> None:
    raw = {"front": {"topic": "/camera/raw", "height": 16, "width": 24, "compressed": False, "stale_s": 5.0}}
    joints = {name: SETTINGS["joints"][name] for name in order}
    robot = robot_of(peer, joints=joints, cameras=raw, **command)
    assert (robot.observe().images["front"] == [200, 0, 0]).all()
    drive(Going(robot.contract, POSE), robot, 30)
    _until(lambda: peer.joints() == pytest.approx(POSE, abs=0.03))
    time.sleep(0.1)
    told = dict(zip(order, robot.measure().tolist(), strict=True))
    assert told == pytest.approx(POSE, abs=0.05)
    robot.close()
    assert not peer.complaints


def test_names_may_be_others_there(peer: Peer) -> None:
    joints = {"pan": {"low": -2.0, "high": 2.0, "ros": "base"}, "lift": {"low": -2.0, "high": 2.0, "ros": "shoulder"}}
    joints["bend"] = {"low": -2.0, "high": 2.0, "ros": "elbow"}
    robot = robot_of(peer, joints=joints, cameras={})
    robot.command(np.array([0.1, 0.2, 0.3], np.float32))
    _until(lambda: peer.targets() == pytest.approx({"base": 0.1, "shoulder": 0.2, "elbow": 0.3}, abs=1e-6))
    robot.close()


def test_a_lost_connection_ends_in_hold_and_is_final(peer: Peer) -> None:
    robot = robot_of(peer)
    steps: list[Step] = []

    def on_step(step: Step) -> None:
        steps.append(step)
        if len(steps) == 8:
            peer.vanish()

    with pytest.raises(RobotError, match=r"ws://127.0.0.1:\d+ closed the connection, or it broke; the robot holds"):
        drive(Going(robot.contract, POSE), robot, 200, on_step)
    assert len(steps) < 100
    sent = [dict(zip(m["msg"]["joint_names"], m["msg"]["points"][0]["positions"], strict=True))
            for m in peer.heard if m["op"] == "publish"]  # fmt: skip
    assert peer.targets() == pytest.approx(sent[-1])
    time.sleep(1.5)  # it would have come again, with what had waited
    with pytest.raises(RobotError, match="closed the connection"):
        robot.command(np.zeros(3, np.float32))
    assert not peer._clients
    robot.close()


def test_a_publisher_that_goes_quiet_ends_the_drive_at_rest(peer: Peer) -> None:
    robot = robot_of(peer, stale_s=0.3)
    steps: list[Step] = []

    def on_step(step: Step) -> None:
        steps.append(step)
        if len(steps) == 5:
            peer.quiet.set()

    with pytest.raises(RobotError, match=r"/joint_states: nothing of base, shoulder, elbow for more than 0\.3 s"):
        drive(Going(robot.contract, POSE), robot, 200, on_step)
    sent = [m["msg"]["points"][0]["positions"] for m in peer.heard if m["op"] == "publish"]
    assert len(sent) >= len(steps)
    np.testing.assert_allclose(sent[-1], sent[-2], atol=1e-6)  # it was brought to rest
    robot.close()


def test_a_state_that_is_sent_again_is_not_fresh(peer: Peer) -> None:
    robot = robot_of(peer, stale_s=0.3, cameras={})
    frozen = {"header": {"stamp": {"sec": 1000, "nanosec": 10**7}}, "name": list(NAMES), "position": [0.0, 0.0, 0.0]}
    peer.change = lambda topic, message: frozen
    time.sleep(0.6)
    with pytest.raises(RobotError, match="nothing of base, shoulder, elbow"):
        robot.measure()
    robot.close()


def test_a_camera_that_stops_is_named(peer: Peer) -> None:
    view = {**SETTINGS["cameras"]["front"], "stale_s": 0.3}
    robot = robot_of(peer, cameras={"front": view})
    peer.change = lambda topic, message: message if topic == "/joint_states" else None
    time.sleep(0.6)
    with pytest.raises(RobotError, match=r"/camera/compressed: no image for more than 0\.3 s"):
        robot.observe()
    robot.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"position": [0.0, 0.0]}, "as many names as positions"),
        ({"position": [0.0, None, 0.0]}, "expected a finite position, got None"),
        ({"name": ["base", "base", "elbow"]}, "expected each joint once"),
        ({"name": ["base", "shoulder", "wrist"]}, r"nothing of elbow \(it tells of base, shoulder, wrist\)"),
    ],
)
def test_what_is_no_state_of_this_robot_is_said(peer: Peer, change: dict[str, Any], message: str) -> None:
    whole = {"name": list(NAMES), "position": [0.0, 0.0, 0.0]}
    peer.change = lambda topic, told: {**told, **whole, **change}
    with pytest.raises(RobotError, match=message):
        robot_of(peer, cameras={}, connect_s=1.0)


def test_an_image_of_another_size_is_said(peer: Peer) -> None:
    robot = robot_of(peer, cameras={"front": {**SETTINGS["cameras"]["front"], "width": 32}})
    with pytest.raises(RobotError, match=r"/camera/compressed: image of camera front: expected uint8 \(16, 32, 3\)"):
        robot.observe()
    robot.close()


def test_what_the_server_complains_of_is_said(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(RobotError, match=r"\(rosbridge says: subscribe: /joint_stat"):
        robot_of(peer, state_topic="/joint_stats", connect_s=1.0)
    assert any("rosbridge at ws://" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"command": "array"}, "say the joints of the controller in its order"),
        ({"command": "array", "order": ["base", "elbow"]}, "each of base, shoulder, elbow once"),
        ({"order": list(NAMES)}, "a trajectory has its joints by name"),
        ({"command": "torque"}, "expected one of trajectory, array"),
        ({"joints": {"base": {"low": 0.0}}}, r"joints\.base.*high"),
        ({"cameras": {"front": {"height": 1, "width": 1}}}, r"cameras\.front.*topic"),
        ({"gripper": "jaw"}, "gripper=jaw is none of the joints"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_robot("rosbridge", {**SETTINGS, **change})


def test_where_nobody_listens_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RobotError, match=rf"ws://127.0.0.1:{port} cannot be reached \(.*refused"):
        make_robot("rosbridge", {**SETTINGS, "port": port})


def test_without_roslibpy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "roslibpy", None)
    with pytest.raises(MissingPackageError, match=r"the rosbridge robot.*pip install 'vla\[ros\]'"):
        make_robot("rosbridge", SETTINGS)


def _until(true: Any) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
