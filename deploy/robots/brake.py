"""How an arm comes to rest within its acceleration and jerk: a rule that is the same at every step of the way.

What is planned by it can so be promised: who has braked for a step has the rest of the same way before them.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

_LOOKS = 512
"""Places along the part of a way that is braked with full strength, where somebody wants to see it."""


class Brake:
    """For each joint; ``speed`` is the highest that it will be asked to brake from, and twice that a relative one."""

    def __init__(
        self,
        *,
        dt: float,
        speed: Float64[np.ndarray, " d"],
        acceleration: Float64[np.ndarray, " d"],
        jerk: Float64[np.ndarray, " d"],
    ) -> None:
        self.dt, self.speed, self.acceleration = dt, speed, acceleration
        # From one end of the acceleration to the other within a step: more is no limit.
        self.jerk = np.minimum(jerk, 2 * acceleration / dt)
        self._change = self.jerk * dt
        self._pace = acceleration * dt
        self._fading = _sum(acceleration, self._change)
        """What is braked, over dt, from full strength on while that fades."""
        self._still = 1e-9 * speed
        self._most = 6 * int(np.ceil(acceleration / self._change).max()) + 12
        self._steps = self._most + int(np.ceil(2 * speed / (acceleration * dt)).max())
        self._long = self._steps // _LOOKS

    def next(self, w: Float64[np.ndarray, "*k d"], a: Float64[np.ndarray, "*k d"]) -> Float64[np.ndarray, "*k d"]:
        """The acceleration of the next step: the hardest from which it can be back at none when the speed is."""
        wanted = np.copysign(_highest(np.abs(w) / self.dt, self._change), -w)
        wanted = np.minimum(np.maximum(wanted, -self.acceleration), self.acceleration)
        braking: np.ndarray = np.minimum(np.maximum(wanted, a - self._change), a + self._change)
        return braking

    def range(self, w: Float64[np.ndarray, " d"], a: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, "2 d"]:
        """The lowest and the highest acceleration of the next step.

        Any of them can fade to none before the speed is at its limit; so could that of the step before.
        """
        down, up = (_highest(np.maximum(self.speed + way, 0) / self.dt, self._change) for way in (w, -w))
        return np.stack(
            [
                np.maximum.reduce([-self.acceleration, a - self._change, np.minimum(-down, a + self._change)]),
                np.minimum.reduce([self.acceleration, a + self._change, np.maximum(up, a - self._change)]),
            ]
        )

    def way(
        self,
        u: Float64[np.ndarray, "*k d"],
        w: Float64[np.ndarray, "*k d"],
        a: Float64[np.ndarray, "*k d"],
        *,
        looks: bool = False,
    ) -> Iterator[Float64[np.ndarray, "*k d"]]:
        """Where it is, from ``u`` on, until all are at rest: of each joint, all that is passed lies between two places.

        With ``looks`` all joints are shown at the same time, and often; without, each in as few steps as it takes.
        """
        yield u
        for _ in range(self._steps if looks else self._most):
            pace = np.abs(w)
            if (pace <= self._still).all():
                return
            full = (w * a < 0) & (np.abs(a) >= self.acceleration)
            if full.any():  # steps of full strength are taken at once
                n = np.where(full, np.floor(np.maximum(pace / self.dt - self._fading, 0) / self.acceleration), 0)
                if looks:  # as many for all joints that still move
                    moving = pace > self._still
                    n = np.minimum(np.where(moving, n, np.inf).min(axis=-1, keepdims=True), self._long) * moving
                way = np.sign(w) * n
                u = u + way * self.dt * (pace - self._pace * (n + 1) / 2)
                w = w - way * self._pace
            a = self.next(w, a)
            w = w + a * self.dt
            u = u + w * self.dt
            yield u


def _sum(first: Float64[np.ndarray, " d"], change: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, " d"]:
    """The sum of ``first``, ``first - change``, ``first - 2 change`` and so on, as far as they are above nothing."""
    n = np.floor(first / change)
    total: np.ndarray = (n + 1) * first - change * n * (n + 1) / 2
    return total


def _highest(total: Float64[np.ndarray, "*k d"], change: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, "*k d"]:
    """The first of numbers whose sum in that sense is ``total``."""
    shares = total / change
    n = np.floor(np.sqrt(2 * shares + 0.25) - 0.5)
    highest: np.ndarray = total / (n + 1) + change * (n / 2)
    return highest
