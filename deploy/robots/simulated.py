"""An environment as a robot: for trying a loop, a recorder or a server's client before there is anything to break."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32

from vla.core.contract import Contract
from vla.core.fit import limits
from vla.core.types import Observation
from vla.deploy.robots.motion import Motion
from vla.envs.registry import env_spec
from vla.envs.spec import to_observation


class SimulatedRobot:
    """One control period passes with each command, so simulated time is that of a loop that keeps its rate.

    An episode that has ended is followed by the next scene with the next command, seed by seed; ``successes`` counts
    those that ended well.
    """

    def __init__(
        self, env: str = "tabletop/place", *, seed: int = 0, settings: Mapping[str, Any] | None = None
    ) -> None:
        self._env = env_spec(env).build(settings or {})
        self._contract = self._env.contract
        self._elapsed_ns = 0
        self._period_ns = round(1e9 / self._contract.control_hz)
        self.episodes = 0
        self.successes = 0
        self.finished = self.success = False
        self._open = True
        self.begin(seed)

    @property
    def contract(self) -> Contract:
        """That of the environment."""
        return self._contract

    @property
    def motion(self) -> Motion:
        """From end to end within a control period: nothing can break, and results stay those of an evaluation."""
        low, high = limits(self._contract.action, np.float64)
        speed = (high - low) * self._contract.control_hz
        return Motion(speed=tuple(1.01 * speed), acceleration=tuple(2.02 * speed * self._contract.control_hz))

    @property
    def instruction(self) -> str:
        """That of the present scene."""
        return self._env.instruction

    def observe(self) -> Observation:
        """The present; time goes on over all scenes."""
        self._elapsed_ns += 1  # looking twice without a command is still two moments
        return Observation(
            images=self._seen.images,
            state=self._seen.state,
            instruction=self._seen.instruction,
            time_ns=self._elapsed_ns,
        )

    def command(self, action: Float32[np.ndarray, " d"]) -> None:
        """Run one control period."""
        if self.finished:
            self.begin(self._seed + 1)
        found, _, terminated, truncated, info = self._env.step(action)
        self._seen = to_observation(found, info)
        self._elapsed_ns += self._period_ns
        if terminated or truncated:
            self.finished, self.success = True, bool(info["success"])
            self.episodes += 1
            self.successes += self.success

    def measure(self) -> Float32[np.ndarray, " s"]:
        """As seen last: time stands still between two commands."""
        return self._seen.state

    def close(self) -> None:
        """Free the environment."""
        if self._open:
            self._env.close()
        self._open = False

    def begin(self, seed: int) -> None:
        """The scene of that seed."""
        self._seed = seed
        self.finished = self.success = False
        self._seen = to_observation(*self._env.reset(seed=seed))
