"""Robots on emulated buses keep what every robot promises, and do in real time what the environment does in its own."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from vla.core.errors import ConfigError, RobotError
from vla.deploy.emulators.build import EmulatorConfig
from vla.deploy.emulators.process import EmulatorProcess
from vla.deploy.robots.emulated import EmulatedRobot, emulated_dynamixel, emulated_feetech
from vla.deploy.robots.real import servo_robot
from vla.deploy.robots.robot import Robot, check_robot
from vla.deploy.robots.table import make_robot
from vla.envs.registry import env_spec

pytest.importorskip("dynamixel_sdk", reason="needs the extra robot")
CALM: dict[str, Any] = {"silent_s": 3.0, "watchdog_s": 2.0, "frames_s": 3.0}
"""Other programs of this machine may keep ours from running for a while."""
SMALL = {"image_size": 32}


@pytest.fixture(scope="module", params=[emulated_dynamixel, emulated_feetech])
def robot(request: pytest.FixtureRequest) -> Iterator[EmulatedRobot]:
    robot = request.param("tabletop/place", settings=SMALL, **CALM)
    yield robot
    robot.close()


def _expert(seed: int) -> list[np.ndarray]:
    """What the expert does in that scene."""
    spec = env_spec("tabletop/place")
    env = spec.build(SMALL)
    expert, actions, done = spec.expert(env), [], False
    env.reset(seed=seed)
    while not done:
        actions.append(expert.action())
        _, _, done, _, info = env.step(actions[-1])
    env.close()
    assert info["success"]
    return actions


def test_an_episode_through_the_bus(robot: EmulatedRobot) -> None:
    """The expert's commands, without looking: 15 of 15 scenes when the machine is quiet, so one of three must do."""
    period_s = 1 / robot.contract.control_hz
    reached = []
    for seed in (2, 7, 11):
        actions = _expert(seed)
        robot.begin(seed)
        assert (robot.success, robot.finished) == (False, False)
        due_s = time.monotonic()
        for action in [*actions, *actions[-1:] * 10]:
            robot.observe()
            robot.command(action)
            due_s += period_s
            time.sleep(max(0.0, due_s - time.monotonic()))
        reached.append(robot.success)
        assert robot.finished >= robot.success
        if reached[-1]:
            return
    raise AssertionError(f"reached: {reached}, {robot.emulator.control.status()}, {robot.faults}")


def test_a_scene_is_the_environments_own(robot: EmulatedRobot) -> None:
    env = env_spec("tabletop/place").build(SMALL)
    for seed in (5, 6):
        robot.begin(seed)
        seen = robot.observe()
        there, _ = env.reset(seed=seed)
        assert seen.instruction == robot.instruction == there["instruction"]
        np.testing.assert_allclose(seen.state, there["state"], atol=0.01)
        for name, image in there["images"].items():
            off = np.abs(seen.images[name].astype(int) - image.astype(int))
            assert off.mean() < 1.0, name
    env.close()


def test_a_robot_that_is_commanded_measures_it(robot: EmulatedRobot) -> None:
    robot.begin(1)
    start = robot.measure()
    goal = start.copy()
    goal[0] += 0.1
    for _ in range(8):
        robot.command(goal)
        time.sleep(0.1)
    np.testing.assert_allclose(robot.measure(), goal, atol=0.02)
    np.testing.assert_allclose(robot.observe().state, goal, atol=0.02)


def test_the_line_that_is_unplugged_is_an_error(robot: EmulatedRobot) -> None:
    """The last test of this robot."""
    robot.emulator.control.fault("unplug")
    time.sleep(0.2)
    with pytest.raises(RobotError, match="was it unplugged"):
        robot.measure()
    robot.close()
    robot.close()
    with pytest.raises(RobotError, match="the emulator is gone"):
        _ = robot.success


def test_it_keeps_every_promise() -> None:
    check_robot(make_robot("emulated-dynamixel", {"settings": SMALL, **CALM}))


def test_faults_can_be_asked_for_from_the_start() -> None:
    with pytest.raises(RobotError, match=r"servo joint3 \(id 3\) does not answer"):
        emulated_dynamixel(settings=SMALL, faults=["silent:3"])
    with pytest.raises(ConfigError, match="no servo has this id"):
        emulated_dynamixel(settings=SMALL, faults=["silent:33"])


def test_an_emulator_that_dies_is_an_error() -> None:
    robot = emulated_feetech(settings=SMALL, **CALM)
    robot.emulator.kill()
    with pytest.raises(RobotError):
        robot.observe()
    robot.close()


@pytest.fixture(scope="module")
def six() -> Iterator[EmulatorProcess]:
    """In place of an SO-101: six Feetech servos with its ids."""
    emulator = EmulatorProcess(EmulatorConfig(protocol="feetech", servos=6))
    yield emulator
    emulator.close()


@pytest.fixture
def so101(six: EmulatorProcess, tmp_path: Any) -> Callable[..., Robot]:
    """An SO-101 there, with a calibration and a camera."""
    import json

    cv2 = pytest.importorskip("cv2", reason="needs the extra robot")
    assert cv2.imwrite(str(tmp_path / "0.png"), np.zeros((8, 8, 3), np.uint8))
    names = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
    motors = {
        name: {"id": i + 1, "drive_mode": 0, "homing_offset": 5, "range_min": 1000, "range_max": 3000}
        for i, name in enumerate(names)
    }
    (tmp_path / "arm.json").write_text(json.dumps(motors))
    camera = {"kind": "files", "source": str(tmp_path), "height": 8, "width": 8, "most_s": 5.0}

    def make(**changes: Any) -> Robot:
        settings = {"port": six.device, "calibration": str(tmp_path / "arm.json"), "cameras": {"eye": camera}}
        return make_robot("so101", {**settings, "silent_s": 3.0, "instruction": "wave", **changes})

    return make


def test_an_so101_with_lerobots_calibration(so101: Callable[..., Robot]) -> None:
    with pytest.raises(ConfigError, match=r"holds the homing offset 0, its calibration says 5.*write_offsets=true"):
        so101()
    robot = so101(write_offsets=True)
    state = robot.measure()
    np.testing.assert_allclose(state[:5], [43 * 2 * np.pi / 4096] * 5, atol=0.01)  # the middle of 2000, at 2043
    assert state[5] == pytest.approx(1043 / 2000, abs=0.01)
    assert robot.instruction == "wave"
    check_robot(robot)
    check_robot(so101())  # now the offsets are there


def test_any_description_is_a_robot(six: EmulatorProcess, tmp_path: Any) -> None:
    path = tmp_path / "two.yaml"
    path.write_text("robot: two\nbus: feetech\njoints: {a: {id: 1, low: -1, high: 1}, b: {id: 2, low: -1, high: 1}}\n")
    check_robot(servo_robot(str(path), six.device, silent_s=3.0))
    with pytest.raises(ConfigError, match="does not take these settings"):
        make_robot("servos", {"description": str(path)})
