"""Recorded episodes again, open loop: what was executed is sent to the environment, whatever it shows.

A deterministic simulator that starts from the recorded seed must go the same way:
so a dataset is checked against the environment that it claims to come from.
"""

from dataclasses import dataclass

import numpy as np

from vla.core.errors import VlaError
from vla.core.types import Episode
from vla.envs.registry import RobotEnv


@dataclass(frozen=True, kw_only=True)
class OpenLoop:
    """How an episode went when it was run again."""

    success: bool
    recorded_success: bool | None
    steps: int
    """Until the environment ended the episode, or the recording did."""
    recorded_steps: int
    state_error: float
    """Largest absolute difference to a recorded state, over all steps and dimensions, in the state's own units."""
    final_state_error: float
    image_error: float
    """Mean absolute difference to the recorded frames, in grey levels; NaN without cameras in common."""

    @property
    def agrees(self) -> bool:
        """Whether it ended as it was recorded."""
        return self.recorded_success is None or self.success == self.recorded_success


def replay_open_loop(env: RobotEnv, episode: Episode) -> OpenLoop:
    """Send what was executed, step by step, from the recorded seed."""
    observation, info = env.reset(seed=episode.seed)
    if env.instruction != episode.instruction and env.instruction not in episode.instruction_alternatives:
        raise VlaError(
            f"replay of seed {episode.seed}: recorded instruction {episode.instruction!r}, got {env.instruction!r}; "
            "use the settings and the version of the environment that it was recorded with"
        )
    errors, pixels = [], []
    success, steps = False, 0
    for step, action in enumerate(episode.action_executed):
        errors.append(float(np.abs(observation["state"] - episode.state[step]).max(initial=0.0)))
        pixels += [
            float(np.abs(observation["images"][name].astype(np.int16) - frames[step]).mean())
            for name, frames in episode.images.items()
            if name in observation["images"] and frames[step].shape == observation["images"][name].shape
        ]
        observation, _, terminated, truncated, info = env.step(action)
        steps = step + 1
        success |= bool(info["success"])
        if terminated or truncated:
            break
    return OpenLoop(
        success=success,
        recorded_success=episode.success,
        steps=steps,
        recorded_steps=len(episode),
        state_error=max(errors),
        final_state_error=errors[-1],
        image_error=float(np.mean(pixels)) if pixels else float("nan"),
    )
