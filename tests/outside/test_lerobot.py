"""An arm that is written for LeRobot is driven through our loop and its gate, in rad, by name."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla.core.contract import Contract
from vla.core.errors import ConfigError, RobotError
from vla.core.types import ActionChunk
from vla.deploy.control.loop import ControlLoop
from vla.deploy.robots.lerobot import LeRobotRobot
from vla.deploy.robots.robot import check_robot
from vla.deploy.robots.table import make_robot
from vla.policies.random import RandomPolicy

JOINTS = {
    "shoulder": {"units": "deg", "low": -1.9, "high": 1.9},
    "elbow": {"units": "deg", "low": -2.5, "high": 2.5},
    "gripper": {"units": "percent", "low": 0.0, "high": 1.0},
}
SETTINGS: dict[str, Any] = {
    "make": "vla_example.lerobot_arm:PlanarArm",
    "config": "vla_example.lerobot_arm:PlanarArmConfig",
    "joints": JOINTS,
    "control_hz": 50,
    "motion": {"speed": {"gripper": 2.5, "elbow": 3.0, "shoulder": 2.0}, "acceleration": 40.0},
    "instruction": "wave",
}


class Going:
    """To one pose, from wherever."""

    def __init__(self, contract: Contract, **pose: float) -> None:
        self.contract = contract
        self._goal = np.array([[pose[d.name] for d in contract.action]], np.float32)

    def reset(self, slot: int) -> None: ...

    def act(self, observations: Any) -> list[ActionChunk | None]:
        (seen,) = observations
        return [ActionChunk(actions=self._goal, time_ns=seen.time_ns)]


def drive(robot: LeRobotRobot, steps: int, **pose: float) -> dict[str, float]:
    loop = ControlLoop(Going(robot.contract, **pose), robot, instruction="move")
    try:
        loop.run(steps)
    finally:
        loop.close()
    return dict(zip([d.name for d in robot.contract.state], robot.measure().tolist(), strict=True))


def test_it_keeps_what_every_robot_promises() -> None:
    robot = make_robot("lerobot", SETTINGS)
    assert robot.contract.robot == "planar_arm"
    assert robot.contract.gripper == "gripper"
    assert robot.motion.speed == (2.0, 3.0, 2.5)
    assert [d.unit for d in robot.contract.action] == ["rad", "rad", "1"]
    assert [(c.name, c.height, c.width) for c in robot.contract.cameras] == [("top", 24, 32)]
    ControlLoop(RandomPolicy(robot.contract, 4, 0), robot, instruction="move").close()
    check_robot(robot)


@pytest.mark.parametrize("order", [("shoulder", "elbow", "gripper"), ("gripper", "shoulder", "elbow")])
def test_it_goes_where_it_is_told_by_name_whatever_the_order(order: tuple[str, ...]) -> None:
    robot = make_robot("lerobot", {**SETTINGS, "joints": {name: JOINTS[name] for name in order}, "motion": {
        "speed": 3.0, "acceleration": 60.0}})  # fmt: skip
    found = drive(robot, 90, shoulder=0.6, elbow=-0.9, gripper=0.8)
    assert found == pytest.approx({"shoulder": 0.6, "elbow": -0.9, "gripper": 0.8}, abs=0.02)
    data = robot._robot._data  # the physics behind it
    assert data.joint("shoulder").qpos[0] == pytest.approx(0.6, abs=0.02)
    assert data.joint("elbow").qpos[0] == pytest.approx(-0.9, abs=0.02)
    assert data.joint("gripper").qpos[0] == pytest.approx(0.8 * 0.06, abs=0.002)
    assert robot.observe().images["top"].mean() == pytest.approx(0.8 * 255, abs=6)
    assert not robot.changed
    robot.close()
    assert not robot._robot.is_connected


def test_what_its_driver_sends_instead_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    robot = make_robot("lerobot", {**SETTINGS, "settings": {"max_relative_target": 1.0}})
    with caplog.at_level(logging.WARNING):
        drive(robot, 20, shoulder=0.6, elbow=0.0, gripper=0.5)
        robot.close()
    assert robot.changed["shoulder"] > 10
    assert robot.changed["elbow"] == 0
    said = [record.message for record in caplog.records]
    assert sum("shoulder.pos: asked for" in line for line in said) == 1
    assert any(f"changed commands: {robot.changed['shoulder']} of shoulder" in line for line in said)


def test_a_robot_that_is_unplugged_ends_the_drive_with_its_own_words() -> None:
    robot = make_robot("lerobot", SETTINGS)
    robot._robot.unplugged = True
    with pytest.raises(RobotError, match="PlanarArm: get_observation: ConnectionError: Failed to sync read"):
        drive(robot, 3, shoulder=0.0, elbow=0.0, gripper=0.5)
    robot.close()


def test_shares_of_a_range_become_rad_by_calibration_or_by_ends(tmp_path: Path) -> None:
    normalised = {**JOINTS, "shoulder": {**JOINTS["shoulder"], "units": "m100_100"}}
    with pytest.raises(ConfigError, match=r"joints\.shoulder: units=m100_100: say its ends in rad, or its calibration"):
        make_robot("lerobot", {**SETTINGS, "joints": normalised})
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"shoulder": {"id": 1, "drive_mode": 0, "homing_offset": 7, "range_min": 1024,
                                             "range_max": 3072}}))  # fmt: skip
    robot = make_robot("lerobot", {**SETTINGS, "joints": normalised, "calibration": str(file)})
    robot._robot._data.joint("shoulder").qpos = np.deg2rad(50)  # which its driver calls 50
    half = 1024 * 2 * np.pi / 4095
    assert robot.measure()[0] == pytest.approx(0.5 * half, rel=1e-6)
    robot.command(np.array([half, 0, 0.5], np.float32))
    assert robot._robot._data.actuator("shoulder").ctrl[0] == pytest.approx(np.deg2rad(100), rel=1e-6)
    robot.close()
    jaw = {**JOINTS, "gripper": {"units": "percent", "low": 0.0, "high": 0.06, "ends": [0.06, 0.0], "unit": "m"}}
    robot = make_robot("lerobot", {**SETTINGS, "joints": jaw})
    assert robot.measure()[2] == pytest.approx(0.03)
    robot.command(np.array([0, 0, 0.06], np.float32))
    assert robot._robot._data.actuator("gripper").ctrl[0] == pytest.approx(0.0, abs=1e-6)
    robot.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"make": "vla_example.lerobot_arm:Nothing"}, "cannot be imported"),
        ({"make": "vla_example.robots:Motors", "config": None}, "Motors, which lacks observation_features"),
        ({"joints": {"shoulder": JOINTS["shoulder"]}}, "nothing is said of elbow.pos, gripper.pos"),
        ({"joints": {**JOINTS, "wrist": JOINTS["elbow"]}}, r"joints\.wrist: the robot has no wrist\.pos"),
        ({"joints": {**JOINTS, "elbow": {"units": "turns", "low": 0.0, "high": 1.0}}}, "expected one of deg, m,"),
        ({"joints": {**JOINTS, "elbow": {"low": 0.0, "high": 1.0}}}, r"joints\.elbow.*units"),
        ({"joints": {**JOINTS, "elbow": {"units": "deg", "low": 1.0, "high": 1.0}}}, "finite low < high"),
        ({"joints": {**JOINTS, "elbow": {**JOINTS["elbow"], "ends": [0.0, 1.0]}}}, "ends are of m100_100, percent"),
        ({"motion": {"speed": 1.0}}, "motion: acceleration: say how hard"),
        ({"motion": {"speed": {"elbow": 1.0}, "acceleration": 1.0}}, "a number for each of shoulder, elbow, gripper"),
        ({"motion": {"speed": 1.0, "acceleration": 1.0, "torque": 1.0}}, "unknown key 'torque'"),
        ({"cameras": ["front"]}, "the robot has no front, but top"),
        ({"calibration": "nowhere.json"}, "nowhere.json does not exist"),
        ({"settings": {"port": "/dev/x"}}, "does not take settings"),
        ({"gripper": "jaw"}, "gripper=jaw is none of the joints"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_robot("lerobot", {**SETTINGS, **change})


def test_a_robot_that_is_not_calibrated_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from vla_example import lerobot_arm

    before = lerobot_arm.PlanarArm.__init__

    def fresh(self: Any, config: Any) -> None:
        before(self, config)
        self.is_calibrated = False

    monkeypatch.setattr(lerobot_arm.PlanarArm, "__init__", fresh)
    with pytest.raises(RobotError, match="not calibrated; calibrate it with its own tool"):
        make_robot("lerobot", SETTINGS)
