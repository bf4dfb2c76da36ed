"""How hard a robot may be moved: what its gate keeps, said in its description."""

from dataclasses import dataclass

import numpy as np

from vla.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Motion:
    """How hard a robot may be moved, in the units of its action and seconds: a number for all dimensions, or each."""

    speed: float | tuple[float, ...]
    acceleration: float | tuple[float, ...]
    deviation: float | tuple[float, ...] = np.inf
    """How far a target may be from where the robot is: beyond, something is in its way, or it does not follow."""
    margin: float = 0.0
    """Share of each range that is left free at both of its ends."""
    stale_s: float = 2.0
    """A command rests on an observation that is no older."""
    servo_hz: float | None = None
    """How often commands are sent; by default once in each control period."""

    def __post_init__(self) -> None:
        for name in ("speed", "acceleration", "deviation", "stale_s"):
            value = np.asarray(getattr(self, name), float)
            if not (value > 0).all():
                raise ConfigError(f"motion: {name}={getattr(self, name)} must be positive")
        if not 0 <= self.margin < 0.5:
            raise ConfigError(f"motion: margin={self.margin} must be at least 0 and below 0.5")
