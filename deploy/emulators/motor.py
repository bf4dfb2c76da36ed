"""What is in a servo besides its electronics: a motor that follows a path, gets warm, and can be weakened.

Positions are in ticks, as the servo counts them; which joint they mean is the business of the plant's scale.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

AMBIENT_C = 28.0
_RISE_C = 25.0
"""Above its surroundings at full force, after long."""
_WARMS_S = 120.0


@runtime_checkable
class Shaft(Protocol):
    """What a motor turns: one joint of a simulation; see `vla.deploy.worlds.plant.Plant`."""

    @property
    def time_s(self) -> float:
        """That has passed for it."""

    def position(self, index: int) -> float:
        """Where it is, ticks."""

    def velocity(self, index: int) -> float:
        """Ticks each second."""

    def effort(self, index: int) -> float:
        """Share of the most force that acts on it, -1 to 1."""

    def drive(self, index: int, target: float, share: float) -> None:
        """Pull it towards ``target`` with at most this share of its force; 0 lets it loose."""


@dataclass(frozen=True)
class Path:
    """From one position to another: speed rises for ``ramp_s``, is even, and falls for ``ramp_s``."""

    start: float
    goal: float
    begins_s: float = 0.0
    lasts_s: float = 0.0
    ramp_s: float = 0.0

    def at(self, time_s: float) -> float:
        """Where it leads at that time."""
        passed, way = time_s - self.begins_s, self.goal - self.start
        if passed >= self.lasts_s:
            return self.goal
        speed = way / (self.lasts_s - self.ramp_s)
        if passed < self.ramp_s:
            return self.start + speed * passed**2 / (2 * self.ramp_s)
        if passed <= self.lasts_s - self.ramp_s:
            return self.start + speed * (passed - self.ramp_s / 2)
        return self.goal - speed * (self.lasts_s - passed) ** 2 / (2 * self.ramp_s)


def timed(way: float, speed: float, acceleration: float) -> tuple[float, float]:
    """How long a way takes and how long its ramps are; a speed or an acceleration of 0 has no bound."""
    way = abs(way)
    if way == 0 or speed == 0:
        return 0.0, 0.0
    if acceleration == 0:
        return way / speed, 0.0
    ramp_s = speed / acceleration
    if way < speed * ramp_s:  # it never gets that fast
        ramp_s = float(np.sqrt(way / acceleration))
        return 2 * ramp_s, ramp_s
    return way / speed + ramp_s, ramp_s


class Motor:
    """One motor and what it is told."""

    def __init__(self, shaft: Shaft, index: int) -> None:
        self._shaft, self._index = shaft, index
        self._path = Path(shaft.position(index), shaft.position(index))
        self.aims = 0
        """How often it was told where to go."""
        self.torque = False
        self.share = 1.0
        """Of its force that it may use."""
        self.temperature_c = AMBIENT_C
        self.heating_c_s = 0.0
        """What something else than its work adds."""

    @property
    def position(self) -> float:
        """Ticks."""
        return self._shaft.position(self._index)

    @property
    def velocity(self) -> float:
        """Ticks each second."""
        return self._shaft.velocity(self._index)

    @property
    def effort(self) -> float:
        """-1 to 1."""
        return self._shaft.effort(self._index) if self.torque else 0.0

    @property
    def target(self) -> float:
        """Where its path leads now, ticks."""
        return self._path.at(self._shaft.time_s)

    @property
    def arrives(self) -> bool:
        """Whether its path is at its end."""
        return self._shaft.time_s >= self._path.begins_s + self._path.lasts_s

    def aim(self, goal: float, lasts_s: float = 0.0, ramp_s: float = 0.0) -> None:
        """Take another path, from where the present one leads now."""
        self.aims += 1
        self._path = Path(self.target, goal, self._shaft.time_s, lasts_s, ramp_s)

    def hold(self) -> None:
        """Stay where it is."""
        self._path = Path(self.position, self.position)

    def step(self, dt_s: float) -> None:
        """Pull for one step of the simulation."""
        if not self.torque:
            self.hold()  # so that torque which comes back starts from where it was moved to meanwhile
        self._shaft.drive(self._index, self.target, self.share if self.torque else 0.0)
        settles_c = AMBIENT_C + _RISE_C * self.effort**2
        self.temperature_c += ((settles_c - self.temperature_c) / _WARMS_S + self.heating_c_s) * dt_s
