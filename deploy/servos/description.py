"""What a robot on a servo bus is: its joints, the servo of each, and how ticks and units belong together.

A description is a YAML file, ours by name or anybody's by path. ``ticks = zero + sign * value * ticks_per_unit``, where
the value is in the joint's unit and a servo counts 4096 ticks a turn.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from vla.core.config import from_dict, read_yaml
from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import ConfigError
from vla.core.lookup import lookup

TICKS = 4096
"""Of a turn."""
_FOLDER = Path(__file__).parent / "descriptions"
DESCRIPTIONS = {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}
"""Ours, by name."""
_MOST_ID = 252


@dataclass(frozen=True, kw_only=True)
class Joint:
    """One joint and its servo."""

    id: int
    """Of the servo on the bus."""
    low: float
    high: float
    """Limits, in the joint's unit."""
    unit: str = "rad"
    zero: float = TICKS / 2
    """Ticks where the value is 0; a calibration may say otherwise."""
    sign: int = 1
    """-1 where ticks fall as the value rises."""
    ticks_per_unit: float = TICKS / (2 * math.pi)
    speed: float = 2.0
    """The most, in units a second."""
    acceleration: float = 20.0
    """The most, in units a second squared."""
    deviation: float = math.inf
    """How far from where the joint is its target may be: a servo pushes by this distance, against what hinders it and
    when it comes free."""

    def __post_init__(self) -> None:
        if not 0 <= self.id <= _MOST_ID:
            raise ConfigError(f"id={self.id} must be from 0 to {_MOST_ID}")
        if self.sign not in (1, -1) or not self.ticks_per_unit > 0 or not self.low < self.high:
            raise ConfigError(
                f"servo {self.id}: sign={self.sign} must be 1 or -1, ticks_per_unit={self.ticks_per_unit:g} positive, "
                f"and low={self.low:g} below high={self.high:g}"
            )


@dataclass(frozen=True, kw_only=True)
class Description:
    """One robot."""

    robot: str
    """Its name in contracts."""
    bus: str
    """Which servos: dynamixel or feetech."""
    joints: dict[str, Joint]
    """By name, in the order of states and actions."""
    gripper: str | None = None
    """The joint that is the gripper; larger opens."""
    baud: int = 1_000_000
    control_hz: float = 30.0

    def __post_init__(self) -> None:
        identifiers = [joint.id for joint in self.joints.values()]
        if not identifiers or len(set(identifiers)) < len(identifiers):
            raise ConfigError(f"{self.robot}: joints need servos of different ids, got {identifiers}")
        for name, joint in self.joints.items():
            ends = [joint.zero + joint.sign * value * joint.ticks_per_unit for value in (joint.low, joint.high)]
            if min(ends) < -0.5 or max(ends) > TICKS - 0.5:
                raise ConfigError(
                    f"{self.robot}: {name} is at ticks {min(ends):.0f} to {max(ends):.0f} at its limits, and a servo "
                    f"takes 0 to {TICKS - 1}; change its zero, its limits or its ticks_per_unit"
                )
        if self.gripper is not None and self.gripper not in self.joints:
            raise ConfigError(f"{self.robot}: gripper {self.gripper!r} must be one of {', '.join(self.joints)}")

    def contract(self, cameras: tuple[Camera, ...]) -> Contract:
        """What the robot shows and takes with these cameras."""
        dimensions = tuple(Dimension(name=n, unit=j.unit, low=j.low, high=j.high) for n, j in self.joints.items())
        return Contract(
            robot=self.robot,
            cameras=cameras,
            state=dimensions,
            action=dimensions,
            gripper=self.gripper,
            control_hz=self.control_hz,
        )


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Ticks to units and back, for all joints in their order."""

    zero: Float64[np.ndarray, " d"]
    ticks_per_unit: Float64[np.ndarray, " d"]
    """Negative where ticks fall as the value rises."""

    @staticmethod
    def of(description: Description) -> "Scale":
        """As it is described, without a calibration."""
        joints = description.joints.values()
        return Scale(
            zero=np.array([j.zero for j in joints], np.float64),
            ticks_per_unit=np.array([j.sign * j.ticks_per_unit for j in joints], np.float64),
        )

    def to_units(self, ticks: Float64[np.ndarray, " d"]) -> Float32[np.ndarray, " d"]:
        """Values of joints."""
        values: np.ndarray = (ticks - self.zero) / self.ticks_per_unit
        return values.astype(np.float32)

    def to_ticks(self, values: Float32[np.ndarray, " d"]) -> Float64[np.ndarray, " d"]:
        """Ticks, not rounded."""
        ticks: np.ndarray = self.zero + values.astype(np.float64) * self.ticks_per_unit
        return ticks


def read_description(name: str) -> Description:
    """One of ours by name, or a YAML file by path."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = lookup("description", name, DESCRIPTIONS)
    return from_dict(Description, read_yaml(path, what="description"), where=str(path))
