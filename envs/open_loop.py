"""Recorded episodes again, open loop: what was executed is sent to the environment, whatever it shows.

A deterministic simulator that starts from the recorded seed must go the same way:
so a dataset is checked against the environment that it claims to come from.
"""

from dataclasses import dataclass, replace

import numpy as np

from vla.core.errors import VlaError
from vla.core.types import Episode
from vla.envs.spec import RobotEnv, SimulatorState


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
    sim_state_error: float
    """The same for the simulator's state; NaN where none was recorded or the environment gives none."""
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
    errors, pixels, simulated = [], [], [float("nan")]
    success, steps = False, 0
    for step, action in enumerate(episode.action_executed):
        errors.append(float(np.abs(observation["state"] - episode.state[step]).max(initial=0.0)))
        if episode.sim_state is not None and isinstance(env, SimulatorState):
            simulated.append(float(np.abs(env.sim_state() - episode.sim_state[step]).max()))
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
        sim_state_error=float(np.nanmax(simulated)) if len(simulated) > 1 else float("nan"),
        image_error=float(np.mean(pixels)) if pixels else float("nan"),
    )


def render_again(env: RobotEnv, episode: Episode) -> Episode:
    """The same episode seen by the cameras of ``env``: other sizes, or images for one that was recorded without."""
    if episode.sim_state is None or not isinstance(env, SimulatorState):
        raise VlaError(
            "render: expected an episode with simulator states and an environment that can restore them; "
            "collect it again with vla collect"
        )
    env.reset(seed=episode.seed)
    frames: dict[str, list[np.ndarray]] = {camera.name: [] for camera in env.contract.cameras}
    for state in episode.sim_state:
        for name, frame in env.restore(state)["images"].items():
            frames[name].append(frame)
    return replace(episode, images={name: np.stack(rows) for name, rows in frames.items()}, image_time_ns={})
