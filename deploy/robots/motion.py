"""How hard a robot may be moved: what its gate keeps, said in its description."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from vla.core.errors import ConfigError

_JUMP_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A box that the tool does not leave, in m, in the frame of ``forward``."""

    forward: Callable[[Float64[np.ndarray, "k d"]], Float64[np.ndarray, "k 3"]]
    """Where the tool is with each of these commands reached."""
    low_m: tuple[float, float, float]
    high_m: tuple[float, float, float]

    def holds(self, commands: Float64[np.ndarray, "k d"]) -> Bool[np.ndarray, " k"]:
        """Whether the tool is inside with each of them."""
        places = self.forward(commands)
        inside: np.ndarray = ((places >= self.low_m) & (places <= self.high_m)).all(axis=1)
        return inside


@dataclass(frozen=True, kw_only=True)
class Motion:
    """How hard a robot may be moved, in the units of its action and seconds: a number for all dimensions, or each."""

    speed: float | tuple[float, ...]
    acceleration: float | tuple[float, ...]
    jerk: float | tuple[float, ...] = np.inf
    deviation: float | tuple[float, ...] = np.inf
    """How far a target may be from where the robot is: beyond, something is in its way, or it does not follow.

    Where a joint is driven by its distance to the target, as servos are, this bounds its force: that of a gripper."""
    margin: float = 0.0
    """Share of each range that is left free at both of its ends."""
    workspace: Workspace | None = None
    stale_s: float = 2.0
    """A command rests on an observation that is no older; then the robot comes to rest."""
    servo_hz: float | None = None
    """How often commands are sent; by default once in each control period."""
    jump: float | tuple[float, ...] | None = None
    """How far the first target may be from where the robot stands: beyond, it is approached slowly, or refused. By
    default what it would be a quarter of a second on its way at its highest speed."""
    hold_s: float = 10.0
    """How long the robot holds still without a command that may pass, before it is let go of."""

    def __post_init__(self) -> None:
        for name in ("speed", "acceleration", "jerk", "deviation", "stale_s", "jump", "hold_s"):
            if (value := getattr(self, name)) is not None and not (np.asarray(value, float) > 0).all():
                raise ConfigError(f"motion: {name}={getattr(self, name)} must be positive")
        if not 0 <= self.margin < 0.5:
            raise ConfigError(f"motion: margin={self.margin} must be at least 0 and below 0.5")
        if self.servo_hz is not None and not 0 < self.servo_hz < np.inf:
            raise ConfigError(f"motion: servo_hz={self.servo_hz} must be positive")

    @property
    def most_jump(self) -> Float64[np.ndarray, "*d"]:
        """`jump`, or what it is by default."""
        return np.asarray(np.multiply(self.speed, _JUMP_S) if self.jump is None else self.jump, float)

    def ticks(self, control_hz: float) -> int:
        """Commands in each control period; a `ConfigError` if they are no whole number."""
        ratio = (self.servo_hz or control_hz) / control_hz
        if ratio < 1 or abs(ratio - round(ratio)) > 1e-6:
            raise ConfigError(
                f"motion: servo_hz={self.servo_hz:g} must be a whole multiple of the {control_hz:g} Hz of the contract"
            )
        return round(ratio)
