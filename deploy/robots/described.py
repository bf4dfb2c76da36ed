"""What the settings of a robot say of its joints and its motion, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import ConfigError
from vla.deploy.robots.motion import Motion

_EACH = ("speed", "acceleration", "jerk", "deviation", "jump")
_SET = {f.name for f in fields(Motion)} - {"workspace"}
"""A workspace is a function, which settings cannot say."""


def dimension(name: str, *, unit: str, low: float, high: float) -> Dimension:
    """One joint; limits that are none are a `ConfigError`."""
    if not low < high or abs(low) == float("inf") or abs(high) == float("inf"):
        raise ConfigError(f"joints.{name}: expected finite low < high, got low={low}, high={high}")
    return Dimension(name=name, unit=unit, low=low, high=high)


def contract_of(
    robot: str, joints: Sequence[Dimension], cameras: Sequence[Camera], *, gripper: str | None, control_hz: int | float
) -> Contract:
    """Of a robot whose joints are commanded as they are measured; the gripper is by default the joint of that name."""
    names = [joint.name for joint in joints]
    if gripper not in (None, *names):
        raise ConfigError(f"gripper={gripper} is none of the joints {', '.join(names)}")
    return Contract(
        robot=robot,
        cameras=tuple(cameras),
        state=tuple(joints),
        action=tuple(joints),
        gripper=gripper or ("gripper" if "gripper" in names else None),
        control_hz=float(control_hz),
    )


def motion_of(names: Sequence[str], said: Mapping[str, Any]) -> Motion:
    """How hard these joints may be moved: each number for all of them, or a number by name."""
    if missing := {"speed", "acceleration"} - said.keys():
        raise ConfigError(f"motion: {', '.join(sorted(missing))}: say how hard the robot may be moved")
    if unknown := said.keys() - _SET:
        raise ConfigError(f"motion: unknown key {min(unknown)!r}; known: {', '.join(sorted(_SET))}")
    values: dict[str, Any] = {key: _each(names, key, value) if key in _EACH else value for key, value in said.items()}
    try:
        return Motion(**values)
    except TypeError as error:
        raise ConfigError(f"motion: {dict(said)}: {error}") from None


def _each(names: Sequence[str], key: str, value: Any) -> float | tuple[float, ...]:
    if not isinstance(value, Mapping):
        return _number(key, value)
    if set(value) != set(names):
        raise ConfigError(f"motion: {key}: expected a number for each of {', '.join(names)}, got {dict(value)}")
    return tuple(_number(f"{key}.{name}", value[name]) for name in names)


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"motion: {key}: expected a number, got {value!r}; YAML wants 1.0e-3 for 1e-3")
    return float(value)
