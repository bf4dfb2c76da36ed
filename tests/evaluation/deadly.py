"""Experts and environments in whose hands a process comes to its end; a module of its own, for workers to import."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vla.envs.registry import env_spec
from vla.envs.spec import EnvSpec
from vla.evaluation.baselines import ExpertPolicy

SEED = 1
PLACE = "tabletop/place"


def deadly_expert(mark: Path, always: bool, name: str, envs: Sequence[Any]) -> ExpertPolicy:
    """Resetting one of ``envs`` to the seed is the end: the first time, or always."""
    for env in envs:
        env.reset = partial(_reset, env.reset, mark, always)
    return ExpertPolicy(name, envs)


def _reset(reset: Callable[..., Any], mark: Path, always: bool, *, seed: int, options: dict[str, Any]) -> Any:
    if seed == SEED and (always or not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return reset(seed=seed, options=options)


def _unbuilt(settings: Mapping[str, Any]) -> Any:
    """The end comes while the environment is built, unless the file exists that ``mark`` names."""
    mark = Path(settings["mark"])
    if not mark.exists():
        if settings.get("once"):
            mark.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return env_spec(PLACE).make({"image_size": 16})


def _hanging(settings: Mapping[str, Any]) -> Any:
    """One seed's third step never returns, in Python or where Python cannot interrupt it."""
    env = env_spec(PLACE).make({"image_size": 16})
    reset, step = env.reset, env.step
    now = [0, 0]

    def begin(*, seed: int, options: dict[str, Any]) -> Any:
        now[:] = [seed, 0]
        return reset(seed=seed, options=options)

    def go(action: Any) -> Any:
        now[1] += 1
        if now == [SEED, 3]:
            if settings.get("deaf"):
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
            time.sleep(600)
        return step(action)

    env.reset, env.step = begin, go  # type: ignore[method-assign]
    return env


def _spec(make: Callable[[Mapping[str, Any]], Any]) -> EnvSpec:
    expert = env_spec(PLACE).expert
    return EnvSpec(make=make, expert=expert, summary="", robot="", instruction="", max_steps=80)


UNBUILT, HANGING = _spec(_unbuilt), _spec(_hanging)
