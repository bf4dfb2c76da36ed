"""Episodes of an expert, with disturbances on demand."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vla.core.types import Episode, Observation
from vla.envs.disturbance import Disturbance
from vla.envs.spec import Expert, RobotEnv, SimulatorModel, SimulatorState, to_observation

Driver = Callable[[Observation], np.ndarray]


class _Pusher:
    """The disturbance of one episode, drawn step by step."""

    def __init__(self, disturbance: Disturbance, rng: np.random.Generator, joints: np.ndarray) -> None:
        self._settings, self._rng, self._joints = disturbance, rng, joints
        self._active = rng.random() < disturbance.episode_share
        self._offset, self._left = np.zeros(len(joints)), 0

    def __call__(self, action: np.ndarray) -> np.ndarray:
        if not self._active:
            return action
        settings, rng = self._settings, self._rng
        if self._left == 0 and rng.random() < settings.offset_share:
            self._offset = rng.normal(0.0, settings.offset_rad, len(self._joints)) * self._joints
            self._left = int(rng.integers(1, settings.offset_steps + 1))
        offset = np.zeros(len(self._joints))
        if self._left:
            offset += self._offset
            self._left -= 1
        if rng.random() < settings.step_share:
            offset += rng.normal(0.0, settings.noise_rad, len(self._joints)) * self._joints
        return (action + offset).astype(np.float32)


def record_episode(
    env: RobotEnv,
    expert: Expert,
    *,
    task: str,
    seed: int,
    split: str = "train",
    disturbance: Disturbance | None = None,
    driver: Driver | None = None,
    driver_steps: int = 0,
) -> Episode:
    """Run one episode and return all of it.

    With ``driver``, that policy executes the first ``driver_steps`` steps and the expert takes over from the states it
    has reached; only the expert's own steps are ``valid`` (HG-DAgger, arXiv 1810.02890).
    """
    observation, info = env.reset(seed=seed)
    rng = np.random.default_rng([seed, 0x6E6F697365])
    joints = np.array([d.unit == "rad" for d in env.contract.action])
    pusher = _Pusher(disturbance, rng, joints) if disturbance else None
    rows: list[dict[str, Any]] = []
    terminated = truncated = False
    while not (terminated or truncated):
        driving = driver is not None and len(rows) < driver_steps
        action = expert.action()
        executed = action
        if driving and driver is not None:
            executed = driver(to_observation(observation, info))
        elif pusher is not None:
            executed = pusher(action)
        row: dict[str, Any] = {"images": observation["images"], "state": observation["state"], "action": action}
        if isinstance(env, SimulatorState):
            row["sim_state"] = env.sim_state()
        row |= {
            "executed": executed,
            "signals": info.get("signals", {}),
            "time_ns": info["time_ns"],
            "valid": not driving,
        }
        observation, reward, terminated, truncated, info = env.step(executed)
        rows.append(row | {"reward": reward, "done": terminated})
    return _episode(env, rows, task=task, seed=seed, split=split, success=bool(info["success"]))


def _episode(env: RobotEnv, rows: list[dict[str, Any]], *, task: str, seed: int, split: str, success: bool) -> Episode:
    def stack(key: str, dtype: Any) -> np.ndarray:
        return np.array([row[key] for row in rows], dtype)

    cameras = [camera.name for camera in env.contract.cameras]
    time_ns = stack("time_ns", np.int64)
    return Episode(
        images={name: np.stack([row["images"][name] for row in rows]) for name in cameras},
        state=stack("state", np.float32),
        action=stack("action", np.float32),
        action_executed=stack("executed", np.float32),
        reward=stack("reward", np.float32),
        done=stack("done", np.bool_),
        valid=stack("valid", np.bool_),
        time_ns=time_ns,
        command_time_ns=time_ns.copy(),  # simulated time stands still while the action is chosen
        signals={name: np.array([row["signals"][name] for row in rows], np.float32) for name in env.contract.signals},
        instruction=env.instruction,
        instruction_alternatives=env.instruction_alternatives,
        task=task,
        split=split,
        seed=seed,
        success=success,
        sim_state=stack("sim_state", np.float64) if "sim_state" in rows[0] else None,
        model=env.model_xml if isinstance(env, SimulatorModel) else "",
    )
