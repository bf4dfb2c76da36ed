"""Latency, lost frames and noise around any environment of this stack, drawn from the episode's own seed."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces

from vla.core.contract import Contract, Dimension
from vla.core.errors import ConfigError
from vla.core.fit import limits
from vla.envs.spec import RobotEnv, SimulatorState

_KINDS = ("frames", "image", "state", "action")
"""What is drawn at random; each has a stream of its own, so that turning one on leaves the others as they were."""


@dataclass(frozen=True, kw_only=True)
class PerturbationConfig:
    """What stands between a simulator and a policy; the defaults change nothing."""

    observation_latency_steps: int = 0
    """Control steps by which images and state arrive late; the first observation is repeated until then."""
    action_latency_steps: int = 0
    """Control steps by which a command takes effect late; until then the robot holds still."""
    dropped_frames: float = 0.0
    """Probability that a camera's frame is lost at a step: its last one is seen again. Each camera for itself."""
    image_noise: float = 0.0
    """Deviation of Gaussian noise on each pixel and channel, grey levels of 255."""
    state_noise: float = 0.0
    """Deviation of Gaussian noise on each dimension of the state, as a share of its range in the contract."""
    action_noise: float = 0.0
    """The same on each command."""

    def __post_init__(self) -> None:
        for name in ("observation_latency_steps", "action_latency_steps"):
            if getattr(self, name) < 0:
                raise ConfigError(f"perturbation: {name}={getattr(self, name)} must be at least 0")
        if not 0 <= self.dropped_frames <= 1:
            raise ConfigError(f"perturbation: dropped_frames={self.dropped_frames} must be between 0 and 1")
        for name in ("image_noise", "state_noise", "action_noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"perturbation: {name}={getattr(self, name)} must be finite and at least 0")


class Perturbed(gymnasium.Env[dict[str, Any], np.ndarray]):
    """``env`` as a robot with slow, lossy and noisy wires would be; ``info`` and the reward stay the truth.

    The order is that of a real robot: a camera adds noise, its frame may be lost, then all that was measured travels.
    ``info["time_ns"]`` stays the clock of the step: the policy is not told that what it sees is old. All other
    attributes (``data``, ``goal``, …) are those of ``env``.
    """

    def __init__(self, env: RobotEnv, config: PerturbationConfig) -> None:
        self.env, self.config = env, config
        inner = cast(Any, env)
        self.observation_space: spaces.Dict = inner.observation_space
        self.action_space: spaces.Box = inner.action_space
        self.metadata, self.render_mode = inner.metadata, inner.render_mode
        self._state_deviation = _deviation(env.contract.state, config.state_noise, "state_noise")
        self._action_deviation = _deviation(env.contract.action, config.action_noise, "action_noise")
        self._observations: deque[Mapping[str, Any]] = deque(maxlen=config.observation_latency_steps + 1)
        self._actions: deque[np.ndarray] = deque(maxlen=config.action_latency_steps + 1)
        self._frames: dict[str, np.ndarray] = {}
        self._streams = _streams(None)

    def __getattr__(self, name: str) -> Any:
        if name == "env" or name.startswith("__"):  # not yet set, or asked for by copy and pickle
            raise AttributeError(name)
        return getattr(self.env, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.env, self.config)

    @property
    def unwrapped(self) -> Any:
        """The environment within: what experts are bound to, as they read its state."""
        return cast(Any, self.env).unwrapped

    @property
    def contract(self) -> Contract:
        """That of the environment."""
        return self.env.contract

    @property
    def instruction(self) -> str:
        """What the policy is told."""
        return self.env.instruction

    @property
    def instruction_alternatives(self) -> tuple[str, ...]:
        """Other wordings."""
        return self.env.instruction_alternatives

    @property
    def renderer(self) -> str:
        """Name of the GL driver in use."""
        return self.env.renderer

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode; with a seed, what is drawn depends on nothing else."""
        super().reset(seed=seed)
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._streams = _streams(seed)
        return self._begin(observation), info

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Send ``action``; what the robot does now may have been sent earlier."""
        self._actions.append(self._sent(action))
        observation, reward, terminated, truncated, info = self.env.step(self._actions[0])
        self._observations.append(self._measured(observation))
        return self._arrived(), reward, terminated, truncated, info

    def render(self) -> np.ndarray:
        """The environment's own picture for people, unperturbed."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _begin(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        self._frames.clear()
        self._observations.clear()
        self._actions.clear()
        first = self._measured(observation)
        self._observations.extend([first] * (self.config.observation_latency_steps + 1))
        still = _hold(self.env.contract, observation["state"], self.action_space)
        self._actions.extend([still] * (self.config.action_latency_steps + 1))
        return self._arrived()

    def _arrived(self) -> dict[str, Any]:
        """Copies: what arrives twice must not be one array that a policy could change."""
        seen = self._observations[0]
        images = {name: image.copy() for name, image in seen["images"].items()}
        return {"images": images, "state": seen["state"].copy(), "instruction": self.env.instruction}

    def _measured(self, observation: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the sensors make of the simulator's observation."""
        state = observation["state"]
        if self.config.state_noise:
            low, high = limits(self.contract.state)  # a sensor shows no more than its range
            noisy = state + self._streams["state"].normal(0.0, 1.0, state.shape) * self._state_deviation
            state = np.clip(noisy, low, high).astype(np.float32)
        return {"images": {k: self._frame(k, v) for k, v in observation["images"].items()}, "state": state}

    def _frame(self, camera: str, image: np.ndarray) -> np.ndarray:
        if self.config.image_noise:
            unit = self._streams["image"].standard_normal(image.shape, np.float32)
            image = np.clip(np.rint(image + unit * np.float32(self.config.image_noise)), 0, 255).astype(np.uint8)
        if self.config.dropped_frames:
            lost = self._streams["frames"].random() < self.config.dropped_frames
            if lost and camera in self._frames:
                return self._frames[camera]
            self._frames[camera] = image
        return image

    def _sent(self, action: np.ndarray) -> np.ndarray:
        if not self.config.action_noise:
            return action
        noisy = action + self._streams["action"].normal(0.0, 1.0, np.shape(action)) * self._action_deviation
        sent: np.ndarray = np.clip(noisy, self.action_space.low, self.action_space.high).astype(np.float32)
        return sent


class PerturbedSimulator(Perturbed):
    """One whose whole state can be read and put back; that does not hold what is under way."""

    def sim_state(self) -> np.ndarray:
        """See `vla.envs.spec.SimulatorState`."""
        state: np.ndarray = cast(Any, self.env).sim_state()
        return state

    def restore(self, state: np.ndarray) -> dict[str, Any]:
        """Put the simulator into ``state``, with nothing under way, and return the observation there."""
        return self._begin(cast(Any, self.env).restore(state))


def perturbed(env: RobotEnv, config: PerturbationConfig) -> Perturbed:
    """``env`` behind such wires, with a state to read and put back if ``env`` has one.

    From Python 3.12 on, a protocol is met by what a class has, not by what it hands through.
    """
    return (PerturbedSimulator if isinstance(env, SimulatorState) else Perturbed)(env, config)


def _streams(seed: int | None) -> dict[str, np.random.Generator]:
    """One generator for each kind of noise, unlike those of the scene and of each other."""
    return {
        kind: np.random.default_rng(None if seed is None else [seed, 0x70657274, number])
        for number, kind in enumerate(_KINDS)
    }


def _deviation(dimensions: Sequence[Dimension], share: float, name: str) -> np.ndarray:
    """(dimensions,): deviation of each, in its own unit."""
    low, high = limits(dimensions, np.float64)
    ranges = high - low
    for dimension, width in zip(dimensions, ranges, strict=True):
        if share and not np.isfinite(width):
            raise ConfigError(
                f"perturbation: {name}={share} is a share of each range, and {dimension.name} has none "
                f"({dimension.low} to {dimension.high}); use {name}=0 with this environment"
            )
    return share * ranges if share else np.zeros(len(dimensions))


def _hold(contract: Contract, state: np.ndarray, space: spaces.Box) -> np.ndarray:
    """The command that leaves the robot as it is: a target that the state names too stays there, any other is 0."""
    now = {(d.name, d.unit): value for d, value in zip(contract.state, state, strict=True)}
    still = [now.get((d.name, d.unit), 0.0) for d in contract.action]
    held: np.ndarray = np.clip(np.array(still, np.float32), space.low, space.high)
    return held
