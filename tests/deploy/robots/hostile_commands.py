"""Commands that nobody should give: at random, from end to end, gliding beyond the ends, and what is none at all."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from vla.deploy.robots.motion import Motion


@dataclass(frozen=True, kw_only=True)
class Course:
    """Where an arm may go, and how hard it may be moved."""

    low: Float[np.ndarray, " d"]
    high: Float[np.ndarray, " d"]
    home: Float[np.ndarray, " d"]
    motion: Motion
    hz: float

    def __len__(self) -> int:
        return len(self.home)

    def some(self, rng: np.random.Generator) -> np.ndarray:
        return rng.random(len(self)) < 0.5


def _random(rng: np.random.Generator, to: Course) -> Iterator[Any]:
    while True:
        yield rng.uniform(to.low - 1, to.high + 1).astype(np.float32)


def _bang(rng: np.random.Generator, to: Course) -> Iterator[Any]:
    """From end to end, for as long as is worst."""
    while True:
        end, steps = np.where(to.some(rng), to.low, to.high), int(rng.integers(1, 90))
        yield from [end.astype(np.float32)] * steps


def _walk(rng: np.random.Generator, to: Course) -> Iterator[Any]:
    at = to.home.astype(np.float32)
    while True:
        at = at + rng.normal(0, 0.05, len(to)).astype(np.float32)
        yield at


def _hostile(rng: np.random.Generator, to: Course) -> Iterator[Any]:
    d = len(to)
    half = np.where(np.arange(d) > 0, to.home, np.inf).astype(np.float32)
    bad = [
        *(np.full(d, value, np.float32) for value in (np.nan, 1e30, -3e38, 1e-42)), half, to.high.astype(np.float32),
        np.zeros(d + 1, np.float32), np.zeros((d, 1)), np.array(["a"] * d, object), np.arange(d), None, "left",
        [0.0] * d,
    ]  # fmt: skip
    while True:
        yield from [bad[rng.integers(len(bad))]] * int(rng.integers(1, 9))


def _glide(rng: np.random.Generator, to: Course) -> Iterator[Any]:
    """As fast as is allowed and as smooth as is asked for, and on beyond the ends: only what comes next is wrong."""
    at, speed = to.home.astype(np.float64), np.zeros(len(to))
    while True:
        goal = np.asarray(to.motion.speed) * np.where(to.some(rng), -0.95, 0.95)
        for _ in range(int(rng.integers(40, 160))):
            most = np.asarray(to.motion.acceleration) / 10 / to.hz  # a tenth of it: within the jerk, too
            speed = speed + np.clip(goal - speed, -most, most)
            at = np.clip(at + speed / to.hz, to.low - 0.5, to.high + 0.5)
            yield at.astype(np.float32)


DRIVERS: dict[str, Callable[[np.random.Generator, Course], Iterator[Any]]] = {
    "random": _random,
    "bang": _bang,
    "walk": _walk,
    "glide": _glide,
    "hostile": _hostile,
}
