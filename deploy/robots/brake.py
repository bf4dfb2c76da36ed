"""How an arm comes to rest within its acceleration and jerk: a rule that is the same at every step of the way.

What is planned by it can so be promised: who has braked for a step has the rest of the same way before them. For each
command dozens of ways are looked at, step by step, so they are compiled.
"""

from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float64, Int64

from vla.core.machine.compiling import compiled

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
        # From one end of the acceleration to the other within a step: more is no limit.
        self.dt, self.speed, self.acceleration = dt, speed, acceleration
        self.jerk = np.minimum(jerk, 2 * acceleration / dt)
        change = self.jerk * dt
        # What is braked, over dt, from full strength on while that fades: the sum of it, it less a change, and so on.
        n = np.floor(acceleration / change)
        fading = (n + 1) * acceleration - change * n * (n + 1) / 2
        self._rule = dt, acceleration, change, fading, 1e-9 * speed
        self._most = 6 * int(np.ceil(acceleration / change).max()) + 12
        self._steps = self._most + int(np.ceil(2 * speed / (acceleration * dt)).max())
        rest = np.zeros((1, len(speed)))
        self.range(rest[0], self.next(rest[0], rest[0]))
        self.ends(rest, rest, rest), self.ways(rest, rest, rest)  # compiling takes seconds, which no command has

    def next(self, w: Float64[np.ndarray, " d"], a: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, " d"]:
        """The acceleration of the next step: the hardest from which it can be back at none when the speed is."""
        braking: np.ndarray = _next_of_all(w, a, self._rule)
        return braking

    def range(self, w: Float64[np.ndarray, " d"], a: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, "2 d"]:
        """The lowest and the highest acceleration of the next step.

        Any of them can fade to none before the speed is at its limit; so could that of the step before.
        """
        ends: np.ndarray = _range(w, a, self.speed, self._rule)
        return ends

    def ends(
        self, u: Float64[np.ndarray, "k d"], w: Float64[np.ndarray, "k d"], a: Float64[np.ndarray, "k d"]
    ) -> Float64[np.ndarray, "3 k d"]:
        """Where each joint rests that brakes from there, and the lowest and the highest place on its way."""
        found: np.ndarray = _ends(u, w, a, self._most, self._rule)
        return found

    def ways(
        self, u: Float64[np.ndarray, "k d"], w: Float64[np.ndarray, "k d"], a: Float64[np.ndarray, "k d"]
    ) -> Float64[np.ndarray, "k s d"]:
        """Places of all joints at the same times, ``u`` first, often enough to see the tool's way, until all rest."""
        places, counts = _ways(u, w, a, self._steps, self._steps // _LOOKS, self._rule)
        seen: np.ndarray = places[:, : counts.max()]
        return seen


_Rule = tuple[float, Any, Any, Any, Any]
"""Time of a step; of each joint the acceleration, its change in a step, what fading brakes, and the speed of rest."""


@compiled()
@no_type_check
def _highest(total: float, change: float) -> float:
    """The first of numbers, each less by ``change`` than the one before, whose sum is ``total``."""
    n = np.floor(np.sqrt(2 * total / change + 0.25) - 0.5)
    return total / (n + 1) + change * n / 2


@compiled()
@no_type_check
def _next(w: float, a: float, dt: float, acceleration: float, change: float) -> float:
    wanted = _highest(abs(w) / dt, change)
    wanted = min(max(-wanted if w > 0 else wanted, -acceleration), acceleration)
    return min(max(wanted, a - change), a + change)


@compiled()
@no_type_check
def _at_once(w: float, a: float, dt: float, acceleration: float, fading: float) -> float:
    """How many steps of full strength come next, before it fades."""
    if w * a < 0 and abs(a) >= acceleration:
        return np.floor(max(abs(w) / dt - fading, 0.0) / acceleration)
    return 0.0


@compiled()
@no_type_check
def _next_of_all(w: np.ndarray, a: np.ndarray, rule: _Rule) -> np.ndarray:
    dt, acceleration, change, _, _ = rule
    found = np.empty_like(w)
    for j in range(len(w)):
        found[j] = _next(w[j], a[j], dt, acceleration[j], change[j])
    return found


@compiled()
@no_type_check
def _range(w: np.ndarray, a: np.ndarray, speed: np.ndarray, rule: _Rule) -> np.ndarray:
    dt, acceleration, change, _, _ = rule
    found = np.empty((2, len(w)))
    for j in range(len(w)):
        down = _highest(max(speed[j] + w[j], 0.0) / dt, change[j])
        up = _highest(max(speed[j] - w[j], 0.0) / dt, change[j])
        least, most = a[j] - change[j], a[j] + change[j]
        found[0, j] = max(-acceleration[j], least, min(-down, most))
        found[1, j] = min(acceleration[j], most, max(up, least))
    return found


@compiled()
@no_type_check
def _ends(u: np.ndarray, w: np.ndarray, a: np.ndarray, most: int, rule: _Rule) -> np.ndarray:
    dt, acceleration, change, fading, still = rule
    found = np.empty((3, *u.shape))
    for i in range(u.shape[0]):
        for j in range(u.shape[1]):
            at, speed, strength = u[i, j], w[i, j], a[i, j]
            low = high = at
            for _ in range(most):
                if abs(speed) <= still[j]:
                    break
                n = _at_once(speed, strength, dt, acceleration[j], fading[j])
                if n > 0:
                    way = n if speed > 0 else -n
                    at += way * dt * (abs(speed) - acceleration[j] * dt * (n + 1) / 2)
                    speed -= way * acceleration[j] * dt
                    low, high = min(low, at), max(high, at)
                strength = _next(speed, strength, dt, acceleration[j], change[j])
                speed += strength * dt
                at += speed * dt
                low, high = min(low, at), max(high, at)
            found[0, i, j], found[1, i, j], found[2, i, j] = at, low, high
    return found


@compiled()
@no_type_check
def _ways(
    u: np.ndarray, w: np.ndarray, a: np.ndarray, steps: int, most_at_once: int, rule: _Rule
) -> tuple[np.ndarray, Int64[np.ndarray, " k"]]:
    dt, acceleration, change, fading, still = rule
    k, d = u.shape
    places, counts = np.empty((k, steps + 1, d)), np.ones(k, np.int64)
    for i in range(k):
        at, speed, strength = u[i].copy(), w[i].copy(), a[i].copy()
        places[i, 0] = at
        for step in range(steps):
            n, moving = np.inf, False
            for j in range(d):
                if abs(speed[j]) > still[j]:
                    moving = True
                    n = min(n, _at_once(speed[j], strength[j], dt, acceleration[j], fading[j]))
            if not moving:
                break
            n = min(n, most_at_once)  # as many for all joints that still move
            for j in range(d):
                if n > 0 and abs(speed[j]) > still[j]:
                    way = n if speed[j] > 0 else -n
                    at[j] += way * dt * (abs(speed[j]) - acceleration[j] * dt * (n + 1) / 2)
                    speed[j] -= way * acceleration[j] * dt
                strength[j] = _next(speed[j], strength[j], dt, acceleration[j], change[j])
                speed[j] += strength[j] * dt
                at[j] += speed[j] * dt
            places[i, step + 1] = at
            counts[i] = step + 2
    for i in range(k):
        for step in range(counts[i], counts.max()):
            places[i, step] = places[i, counts[i] - 1]
    return places, counts
