"""Whether an environment keeps what `vla.envs.spec.RobotEnv` promises: to run on one's own before anything is trained.

Gymnasium's checker looks at spaces and signatures; this one also looks at what results rest on: that the contract is
true, that a seed is an episode whatever ran before, that states can be put back, and that a copy is the same.
"""

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env as check_gymnasium

from vla.core.errors import VlaError
from vla.core.fit import check_images, check_state, limits
from vla.envs.spec import RobotEnv, SimulatorState

_STEPS = 4
_SEEDS = (3, 4)


def check_env(env: RobotEnv) -> None:
    """Raise `VlaError` with what is wrong; the environment is left in some episode."""
    assert isinstance(env, gymnasium.Env), type(env)
    with warnings.catch_warnings():
        # A recommendation for learning algorithms: actions here are in the robot's own units, on purpose.
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")
        check_gymnasium(env, skip_render_check=True)  # that part wants a name in Gymnasium's own registry
    first = _rollout(env, _SEEDS[0])
    _rollout(env, _SEEDS[1])
    _same(first, _rollout(env, _SEEDS[0]), "the same seed after another episode")
    if isinstance(env, SimulatorState):
        _check_restore(env)
    twin = copy.deepcopy(env)  # goes through what pickling would, as when it is sent to a spawned process
    try:
        _same(first, _rollout(twin, _SEEDS[0]), "a copy")
    finally:
        twin.close()


def _rollout(env: RobotEnv, seed: int) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Some steps of small random motions; every observation is held against the contract."""
    rng = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    seen: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [(observation, info)]
    low, high = limits(env.contract.action)
    for _ in range(_STEPS):
        _check_observation(env, observation, info)
        action = (low + (high - low) * rng.uniform(0.4, 0.6, len(low))).astype(np.float32)
        before = info["time_ns"]
        observation, reward, terminated, truncated, info = env.step(action)
        period = 1e9 / env.contract.control_hz
        if abs(info["time_ns"] - before - period) > 0.01 * period:
            raise VlaError(
                f"time_ns: expected steps of {period / 1e6:g} ms as the contract says, "
                f"got {(info['time_ns'] - before) / 1e6:g} ms"
            )
        if terminated != info["success"] or not np.isfinite(reward):
            raise VlaError(f"expected to be terminated exactly at success, got {terminated} and {info['success']}")
        seen.append((observation, info))
        if terminated or truncated:
            break
    return seen


def _check_observation(env: RobotEnv, observation: Mapping[str, Any], info: Mapping[str, Any]) -> None:
    contract = env.contract
    check_images(observation["images"], contract, who="the environment")
    unknown = set(observation["images"]) - {camera.name for camera in contract.cameras}
    if unknown:
        raise VlaError(f"images: {', '.join(sorted(unknown))} is shown, and the contract has no such camera")
    check_state(observation["state"], contract, who="the environment")
    if observation["instruction"] != env.instruction or not env.instruction.strip():
        raise VlaError(f"instruction: {observation['instruction']!r} is observed, and {env.instruction!r} is the goal")
    signals = info.get("signals", {})
    if set(signals) != set(contract.signals):
        raise VlaError(f"signals: the contract has {list(contract.signals)}, got {list(signals)}")
    for name, dimensions in contract.signals.items():
        value = signals[name]
        if value.shape != (len(dimensions),) or value.dtype != np.float32 or not np.isfinite(value).all():
            raise VlaError(
                f"signal {name}: expected finite float32 ({len(dimensions)},), got {value.dtype} {value.shape}"
            )
    missing = {"success", "progress", "time_ns", "goal"} - set(info)
    if missing:
        raise VlaError(f"info lacks {', '.join(sorted(missing))}")
    if not 0 <= info["progress"] <= 1 or (info["progress"] == 1) != bool(info["success"]):
        raise VlaError(f"progress: expected 0 to 1, and 1 exactly at success, got {info['progress']}")


def _check_restore(env: Any) -> None:
    """A state that was put back shows the same and leads to the same."""
    env.reset(seed=_SEEDS[0])
    low, high = limits(env.contract.action)
    middle = (low + high) / 2
    observation = env.step(middle)[0]
    state = env.sim_state()
    after = env.step(middle)[0]
    _same([(observation, {})], [(env.restore(state), {})], "a restored state")
    if not np.array_equal(env.sim_state(), state):
        raise VlaError("restore: the simulator's state is not the one that was put back")
    _same([(after, {})], [(env.step(middle)[0], {})], "a step from a restored state")


def _same(ours: list[tuple[Any, Any]], theirs: list[tuple[Any, Any]], what: str) -> None:
    if len(ours) != len(theirs):
        raise VlaError(f"{what}: {len(ours)} and {len(theirs)} steps")
    for step, ((a, _), (b, _)) in enumerate(zip(ours, theirs, strict=True)):
        for name, image in a["images"].items():
            if not np.array_equal(image, b["images"][name]):
                raise VlaError(f"{what}: the image of {name} differs at step {step}")
        if not np.array_equal(a["state"], b["state"]) or a["instruction"] != b["instruction"]:
            raise VlaError(f"{what}: state or instruction differ at step {step}")
