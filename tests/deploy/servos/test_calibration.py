"""Calibration files, ours and LeRobot's, say the same of a joint as whoever wrote them meant."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla.core.errors import ConfigError
from vla.deploy.servos.calibration import calibrated, read_calibration, write_calibration
from vla.deploy.servos.description import read_description

SO101 = read_description("so101")


def lerobots(**changes: Any) -> dict[str, Any]:
    motors = {
        name: {"id": joint.id, "drive_mode": 0, "homing_offset": 10 * joint.id, "range_min": 900, "range_max": 3100}
        for name, joint in SO101.joints.items()
    }
    for name, change in changes.items():
        motors[name] = {**motors.get(name, {}), **change}
    return motors


def written(tmp_path: Path, value: Any) -> Path:
    path = tmp_path / "arm.json"
    path.write_text(json.dumps(value))
    return path


def test_lerobots_middle_is_zero_and_its_gripper_a_share(tmp_path: Path) -> None:
    """As its degrees mode has it: (ticks - middle) * 360 / 4095 degrees; a gripper 0 to 100 from end to end."""
    found = read_calibration(written(tmp_path, lerobots(elbow_flex={"drive_mode": 1})), SO101)
    arm, scale = calibrated(SO101, found)
    ticks = np.array([2000.0, 2100, 2100, 2000, 2000, 3100])
    values = scale.to_units(ticks)
    degrees = 100 * 360 / 4096
    np.testing.assert_allclose(np.rad2deg(values[:5]), [0, degrees, -degrees, 0, 0], atol=1e-4)
    assert values[5] == pytest.approx(1.0)
    assert scale.to_units(np.full(6, 900.0))[5] == pytest.approx(0.0)
    assert arm.joints["shoulder_pan"].high == pytest.approx(1100 * 2 * np.pi / 4096)
    assert found["wrist_roll"].homing_offset == 50


def test_an_inverted_gripper_opens_the_other_way(tmp_path: Path) -> None:
    found = read_calibration(written(tmp_path, lerobots(gripper={"drive_mode": 1})), SO101)
    _, scale = calibrated(SO101, found)
    assert scale.to_units(np.full(6, 900.0))[5] == pytest.approx(1.0)
    assert scale.to_units(np.full(6, 3100.0))[5] == pytest.approx(0.0)


def test_ours_is_read_back_as_it_was(tmp_path: Path) -> None:
    found = read_calibration(written(tmp_path, lerobots()), SO101)
    write_calibration(tmp_path / "ours.json", found)
    assert read_calibration(tmp_path / "ours.json", SO101) == found


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lerobots(shoulder_pan={"id": 4}), "shoulder_pan is servo 4, and servo 1 in the description"),
        (lerobots(thumb={"id": 9, "drive_mode": 0, "homing_offset": 0, "range_min": 1, "range_max": 2}), "'thumb'"),
        ({k: v for k, v in lerobots().items() if k != "gripper"}, "'gripper' is missing"),
        (lerobots(gripper={"range_min": 3200}), "low=3200 below high=3100"),
        (lerobots(gripper={"range_min": 1.5}), "whole numbers"),
        ({"vla_calibration": 2, "joints": {}}, "expected vla_calibration 1"),
        ([], "expected a JSON object"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_calibration(written(tmp_path, value), SO101)


def test_a_joint_that_cannot_reach_its_range_is_refused(tmp_path: Path) -> None:
    found = dict(read_calibration(written(tmp_path, lerobots()), SO101))
    import dataclasses

    found["elbow_flex"] = dataclasses.replace(found["elbow_flex"], zero=-9000.0)
    with pytest.raises(ConfigError, match="elbow_flex moves from"):
        calibrated(SO101, found)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_calibration(tmp_path / "nowhere.json", SO101)
