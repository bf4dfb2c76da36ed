"""Calibration files: how each servo sits on its joint. Ours, and LeRobot's.

Ours is JSON, ``{"vla_calibration": 1, "joints": {NAME: {...}}}`` with the fields of `JointCalibration`. LeRobot's has
no header, and of each motor ``id``, ``drive_mode`` (1: inverted), ``homing_offset`` (in the servo's own memory),
``range_min`` and ``range_max``: the ticks at the joint's ends, in the middle of which its value is 0 degrees.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.config import from_dict
from vla.core.errors import ConfigError
from vla.core.files import write_json
from vla.core.sealed import DamageError, parse_json
from vla.deploy.servos.description import TICKS, Description, Scale

_VERSION = "vla_calibration"
_MOST_BYTES = 100_000
_LEROBOT = {"id", "drive_mode", "homing_offset", "range_min", "range_max"}


@dataclass(frozen=True, kw_only=True)
class JointCalibration:
    """One servo on its joint."""

    id: int
    zero: float
    """Ticks where the joint's value is 0."""
    sign: int = 1
    """-1 where ticks fall as the value rises."""
    homing_offset: int = 0
    """What the servo's own memory must hold for these ticks to be right."""
    low: int = 0
    high: int = TICKS - 1
    """Ticks at the ends of what the joint can do."""

    def __post_init__(self) -> None:
        if self.sign not in (1, -1) or not 0 <= self.low < self.high < TICKS:
            raise ConfigError(
                f"servo {self.id}: sign={self.sign} must be 1 or -1, and low={self.low} below high={self.high}, both "
                f"from 0 to {TICKS - 1}"
            )


Calibration = Mapping[str, JointCalibration]
"""By the joint's name."""


def read_calibration(path: Path, description: Description) -> Calibration:
    """The calibration of exactly these joints; a `ConfigError` says what does not fit."""
    try:
        with path.open("rb") as file:
            value = parse_json(file.read(_MOST_BYTES + 1))
    except OSError as error:
        raise ConfigError(f"calibration {path}: {error.strerror}") from None
    except DamageError as error:
        raise ConfigError(f"calibration {path} is damaged: {error}") from None
    found = _ours(value, path) if _VERSION in value else _lerobots(value, path, description)
    for name in found.keys() ^ description.joints.keys():
        raise ConfigError(
            f"calibration {path}: joint {name!r} is {'unknown to' if name in found else 'missing for'} "
            f"{description.robot}; its joints are {', '.join(description.joints)}"
        )
    for name, joint in description.joints.items():
        if found[name].id != joint.id:
            raise ConfigError(
                f"calibration {path}: {name} is servo {found[name].id}, and servo {joint.id} in the "
                f"description of {description.robot}; calibrate the right robot"
            )
    return {name: found[name] for name in description.joints}


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Ours."""
    joints = {name: dataclasses.asdict(joint) for name, joint in calibration.items()}
    write_json(path, {_VERSION: 1, "joints": joints})


def calibrated(description: Description, calibration: Calibration) -> tuple[Description, Scale]:
    """The description with its limits drawn in to what the joints can do, and ticks to units as they are there."""
    joints, zero, per_unit = {}, [], []
    for name, joint in description.joints.items():
        found = calibration[name]
        rate = found.sign * joint.ticks_per_unit
        if joint.unit == "1":  # a share of the way, whatever it is
            rate = found.sign * (found.high - found.low) / (joint.high - joint.low)
        ends = sorted((tick - found.zero) / rate for tick in (found.low, found.high))
        low, high = max(joint.low, ends[0]), min(joint.high, ends[1])
        if not low < high:
            raise ConfigError(
                f"calibration: {name} moves from {ends[0]:.3g} to {ends[1]:.3g} {joint.unit}, and by its "
                f"description from {joint.low:g} to {joint.high:g}; calibrate it anew"
            )
        zero.append(found.zero)
        per_unit.append(rate)
        joints[name] = dataclasses.replace(
            joint, low=low, high=high, zero=found.zero, sign=found.sign, ticks_per_unit=abs(rate)
        )
    scale = Scale(zero=np.array(zero, np.float64), ticks_per_unit=np.array(per_unit, np.float64))
    return dataclasses.replace(description, joints=joints), scale


def _ours(value: Mapping[str, Any], path: Path) -> dict[str, JointCalibration]:
    joints = value.get("joints")
    if value[_VERSION] != 1 or not isinstance(joints, dict):
        raise ConfigError(f"calibration {path}: expected {_VERSION} 1 with joints, got {value[_VERSION]!r}")
    return {n: from_dict(JointCalibration, joint, where=f"calibration {path}", key=n) for n, joint in joints.items()}


def _lerobots(value: Mapping[str, Any], path: Path, description: Description) -> dict[str, JointCalibration]:
    found = {}
    for name, motor in value.items():
        if not isinstance(motor, dict) or motor.keys() != _LEROBOT or not all(type(v) is int for v in motor.values()):
            raise ConfigError(
                f"calibration {path}: {name!r} must hold whole numbers for {', '.join(sorted(_LEROBOT))}, as LeRobot "
                f"writes it, or the file begin with {_VERSION}"
            )
        low, high, sign = motor["range_min"], motor["range_max"], -1 if motor["drive_mode"] else 1
        joint = description.joints.get(name)
        ratio = joint is not None and joint.unit == "1"
        zero = (low + high) / 2 if not ratio else float(low if sign > 0 else high)
        found[name] = JointCalibration(
            id=motor["id"], zero=zero, sign=sign, homing_offset=motor["homing_offset"], low=low, high=high
        )
    return found
