"""A description held against what the environment says of itself: whatever does not fit is an error that names both."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces, wrappers

from vla.core.errors import ConfigError, UnknownNameError
from vla.core.fit import limits
from vla.core.lookup import lookup
from vla.envs.adapter.setup import GymnasiumSetup, StateSlice

_HARMLESS = (wrappers.OrderEnforcing, wrappers.PassiveEnvChecker)
"""What `gymnasium.make` puts around every environment."""
_ROUNDING = 1e-5
_SAME_RATE = 0.01


def make(setup: GymnasiumSetup) -> Any:
    """The environment that the id means, with the wrappers that belong to it and without a limit of time."""
    where = f"adapter of {setup.id}"
    arguments: dict[str, Any] = {"max_episode_steps": -1, **setup.make}
    if any(camera.model is None for camera in setup.cameras):
        arguments.setdefault("render_mode", "rgb_array")
    try:
        if setup.register is not None:
            setup.register()
        for name in setup.packages:
            metadata.version(name)
        env: Any = gymnasium.make(setup.id, disable_env_checker=True, **arguments)
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        extra = f" (make has {', '.join(setup.make)})" if isinstance(error, TypeError) and setup.make else ""
        raise ConfigError(f"{where}: it cannot be made: {' '.join(str(error).split())}{extra}") from error
    while isinstance(env, _HARMLESS):
        env = env.env
    return env


def compare(setup: GymnasiumSetup, env: Any) -> None:
    """Raise `ConfigError` with the first part of the description that the environment contradicts."""
    for part in (_wrappers, _actions, _observations, _cameras, _rate):
        for line in part(setup, env):
            raise ConfigError(f"adapter of {setup.id}: {line}")


def state_of(setup: GymnasiumSetup, observed: Any) -> np.ndarray:
    """float32 (s,): the numbers of an observation that are described."""
    parts = [_numbers(setup, part, observed) for part in setup.state]
    return np.asarray(np.concatenate([np.zeros(0), *parts]), np.float32)


def told_success(setup: GymnasiumSetup, facts: Mapping[str, Any], *, at_reset: bool) -> bool:
    """What ``info`` says of success; only at the start of an episode may it say nothing."""
    key = setup.success
    assert isinstance(key, str)
    if key in facts:
        return truth(setup, facts[key], f"info[{key!r}]")
    if at_reset:
        return False
    try:
        lookup("key of info", key, facts)
    except UnknownNameError as error:
        advice = "name one that each step has, or give a function of environment and observation"
        raise ConfigError(f"adapter of {setup.id}: success: {error}; {advice}") from None
    return False


def truth(setup: GymnasiumSetup, value: Any, what: str) -> bool:
    """A yes or a no: one bool, or one number that is 0 or 1."""
    array = np.asarray(value)
    if array.size == 1 and array.dtype.kind in "biuf" and array.reshape(()) in (0, 1):
        return bool(array.reshape(()))
    raise ConfigError(f"adapter of {setup.id}: success: {what} should be true or false, got {value!r:.80}")


def _wrappers(setup: GymnasiumSetup, env: Any) -> Iterator[str]:
    for wrapper in _around(env):
        name = type(wrapper).__name__
        if isinstance(wrapper, wrappers.TimeLimit) and wrapper._max_episode_steps < setup.max_steps:
            yield (
                f"max_steps={setup.max_steps} is described, and its own {name} ends episodes after "
                f"{wrapper._max_episode_steps} steps; describe at most that"
            )
        changes = isinstance(wrapper, gymnasium.ObservationWrapper)
        if changes and setup.observe is not None:
            yield f"observe would show what its own {name} hides or changes; leave observe out"


def _around(env: Any) -> Iterator[Any]:
    while isinstance(env, gymnasium.Wrapper):
        if not isinstance(env, _HARMLESS):
            yield env
        env = env.env


def _actions(setup: GymnasiumSetup, env: Any) -> Iterator[str]:
    space, shape = env.action_space, (len(setup.action),)
    if not isinstance(space, spaces.Box) or space.dtype is None or space.dtype.kind != "f":
        yield f"action: it takes {space}, and only a Box of real numbers can be described"
        return
    if space.shape != shape:
        yield f"action has shape {space.shape}, {shape} are described"
        return
    low, high = limits(setup.action, np.float64)
    signs = np.array([-1 if d.name in setup.flipped else 1 for d in setup.action])
    ours = np.sort(np.stack([low * signs, high * signs]), axis=0)
    room = _ROUNDING * np.maximum(1.0, np.abs(ours))
    for i, dimension in enumerate(setup.action):
        if not (ours[0, i] < ours[1, i]):
            yield f"action {dimension.name}: {dimension.low:g} to {dimension.high:g} is no range"
        if ours[0, i] < space.low[i] - room[0, i] or ours[1, i] > space.high[i] + room[1, i]:
            turned = ", turned round," if signs[i] < 0 else ""
            yield (
                f"action {dimension.name}: {dimension.low:g} to {dimension.high:g}{turned} is described, it takes "
                f"{space.low[i]:g} to {space.high[i]:g}; describe its own limits, or narrower ones"
            )


def _observations(setup: GymnasiumSetup, env: Any) -> Iterator[str]:
    if setup.observe is not None:  # what that shows is compared when it does
        return
    for part in setup.state:
        space = env.observation_space
        line = _misses(part, space.spaces if isinstance(space, spaces.Dict) else None)
        if line:
            yield line
            continue
        inner = space[part.key] if part.key else space
        if not isinstance(inner, spaces.Box):
            yield f"state {_title(part)} is {inner}, and only numbers of a Box can be described"
        else:
            yield from _beyond(part, inner.shape)


def _cameras(setup: GymnasiumSetup, env: Any) -> Iterator[str]:
    model = getattr(env.unwrapped, "model", None)
    named = [camera for camera in setup.cameras if camera.model is not None]
    needs = [camera.name for camera in named] + (["observe"] if setup.observe else [])
    if needs and not isinstance(model, mujoco.MjModel):
        yield f"{', '.join(needs)} needs a MuJoCo model, and it has none"
        return
    known = {model.camera(i).name: i for i in range(model.ncam)} if isinstance(model, mujoco.MjModel) else {}
    if named and not any(known):
        yield f"camera {named[0].name}: its model has no camera with a name; leave model out to take its own render()"
    for camera in named:
        try:
            lookup("camera of its model", str(camera.model), known)
        except UnknownNameError as error:
            yield f"camera {camera.name}: {error}"
    own, modes = [c.name for c in setup.cameras if c.model is None], env.metadata.get("render_modes") or []
    if own and (env.render_mode != "rgb_array" or "rgb_array" not in modes):
        has = ", ".join(map(str, modes)) or "none"
        yield (
            f"camera {own[0]} is its own render(), which gives pictures in render_mode 'rgb_array' alone; it was made "
            f"with {env.render_mode!r}, and has {has}"
        )


def _rate(setup: GymnasiumSetup, env: Any) -> Iterator[str]:
    """Only MuJoCo's environments know how long a step is: ``render_fps`` of others is for people."""
    inner = env.unwrapped
    if not isinstance(getattr(inner, "model", None), mujoco.MjModel):
        return
    step_s = getattr(inner, "dt", None)
    if isinstance(step_s, float) and step_s > 0 and abs(step_s * setup.control_hz - 1) > _SAME_RATE:
        yield f"control_hz={setup.control_hz:g} is described, a step takes {step_s:g} s: {1 / step_s:g} Hz"


def _numbers(setup: GymnasiumSetup, part: StateSlice, observed: Any) -> np.ndarray:
    where = f"adapter of {setup.id}"
    line = _misses(part, observed if isinstance(observed, Mapping) else None)
    if line:
        raise ConfigError(f"{where}: {line}")
    value = np.asarray(observed[part.key] if part.key else observed)
    if value.dtype.kind not in "biuf":
        raise ConfigError(f"{where}: state {_title(part)} should be numbers, got {value.dtype}")
    for line in _beyond(part, value.shape):
        raise ConfigError(f"{where}: {line}")
    return value[list(part.index)]


def _misses(part: StateSlice, table: Mapping[str, Any] | None) -> str | None:
    """Why a dictionary, or what is none, does not have the part; None where it does."""
    if table is None:
        return f"state {_title(part)}: the observation is one array; leave the key out" if part.key else None
    if part.key in table:
        return None
    has = ", ".join(map(str, table))
    return f"state {_title(part)}: the observation is a dictionary of {has}, name one of these as key"


def _beyond(part: StateSlice, shape: Sequence[int]) -> Iterator[str]:
    if len(shape) != 1:
        yield f"state {_title(part)} has shape {tuple(shape)}, and only a row of numbers can be described"
        return
    for index, dimension in zip(part.index, part.dimensions, strict=True):
        if not 0 <= index < shape[0]:
            yield f"state {dimension.name}: index {index} of {_title(part)}, which has numbers 0 to {shape[0] - 1}"


def _title(part: StateSlice) -> str:
    return repr(part.key) if part.key else "array"
