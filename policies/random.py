"""A policy that wanders: the floor that any trained policy must beat, and a load for loops and servers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from vla.core.contract import Contract
from vla.core.errors import ContractError
from vla.core.fit import limits
from vla.core.types import ActionChunk, Observation

Array = NDArray[Any]

MAX_SPEED_PER_S = 0.5
"""Fastest motion of a target, in ranges (high - low) per second."""
CORRELATION_S = 0.5
"""How long a direction lasts."""


class RandomPolicy:
    """A smooth random walk of every action dimension within its limits.

    Row 0 is one step from the present joints, which are the state dimensions named like action dimensions, clipped into
    the limits; a dimension without a state continues from its last target, and begins in the middle of its range. The
    same (seed, slot, number of resets) and the same observations give the same chunks.
    """

    def __init__(self, contract: Contract, horizon: int = 8, seed: int = 0) -> None:
        if horizon < 1:
            raise ContractError(f"horizon: expected at least 1, got {horizon}")
        self._contract = contract
        self._horizon = horizon
        self._seed = seed
        self._low, self._high = limits(contract.action, np.float64)
        for d in contract.action:
            if not (np.isfinite([d.low, d.high]).all() and d.low < d.high):
                raise ContractError(f"action.{d.name}: expected finite limits low < high, got [{d.low}, {d.high}]")
        state = {dimension.name: index for index, dimension in enumerate(contract.state)}
        self._from_state = [(i, state[d.name]) for i, d in enumerate(contract.action) if d.name in state]
        self._resets: dict[int, int] = {}
        self._walks: dict[int, _Walk] = {}

    @property
    def contract(self) -> Contract:
        """The contract it was made for."""
        return self._contract

    def reset(self, slot: int) -> None:
        """Begin another walk in ``slot``."""
        self._resets[slot] = self._resets.get(slot, 0) + 1
        self._walks.pop(slot, None)

    def seed(self, slot: int, seed: int) -> None:
        """Begin the walk in ``slot`` that belongs to ``seed``, the same in every slot."""
        self._walks[slot] = self._walk([seed, 0, 0])

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """Answer each observation with ``horizon`` targets."""
        return [None if o is None else self._chunk(slot, o) for slot, o in enumerate(observations)]

    def _walk(self, seed: Sequence[int]) -> "_Walk":
        return _Walk(np.random.default_rng(seed), self._low, self._high, self._contract.control_hz)

    def _chunk(self, slot: int, observation: Observation) -> ActionChunk:
        if slot not in self._walks:
            self._walks[slot] = self._walk([self._seed, slot, self._resets.get(slot, 0)])
        walk = self._walks[slot]
        for i, j in self._from_state:
            walk.position[i] = observation.state[j]
        targets = walk.steps(self._horizon).astype(np.float32)  # (h, d)
        # Rounding to float32 may step over a limit that float32 cannot hold: the nearest one inside is the limit.
        low, high = _inner_float32(self._low, self._high)
        return ActionChunk(actions=np.clip(targets, low, high), time_ns=observation.time_ns)


class _Walk:
    """Position and speed of one walk, in the units of the action and those a step."""

    def __init__(
        self, rng: np.random.Generator, low: Float64[Array, " d"], high: Float64[Array, " d"], hz: float
    ) -> None:
        self.position = (low + high) / 2
        self._rng, self._low, self._high = rng, low, high
        self._speed = np.zeros_like(low)
        self._max_speed = MAX_SPEED_PER_S * (high - low) / hz
        self._keep = np.exp(-1 / (CORRELATION_S * hz))

    def steps(self, count: int) -> Float64[Array, "h d"]:
        rows = []
        self.position = np.clip(self.position, self._low, self._high)
        for _ in range(count):
            push = self._rng.uniform(-1, 1, len(self._low)) * self._max_speed
            # The factor 3 makes a typical speed about a third of the fastest; without it the walk hardly moves.
            self._speed = self._keep * self._speed + (1 - self._keep) * push * 3
            self._speed = np.clip(self._speed, -self._max_speed, self._max_speed)
            reached = self.position + self._speed
            outside = (reached < self._low) | (reached > self._high)
            self._speed = np.where(outside, -self._speed, self._speed)
            self.position = np.clip(reached, self._low, self._high)
            rows.append(self.position)
        return np.stack(rows)


def _inner_float32(low: Float64[Array, " d"], high: Float64[Array, " d"]) -> tuple[Array, Array]:
    """The float32 numbers nearest to the limits and not beyond them."""
    inner_low, inner_high = low.astype(np.float32), high.astype(np.float32)
    inner_low = np.where(inner_low < low, np.nextafter(inner_low, np.float32(np.inf)), inner_low)
    inner_high = np.where(inner_high > high, np.nextafter(inner_high, np.float32(-np.inf)), inner_high)
    return inner_low, inner_high
