"""Environments by name: each suite has a table of its own, free of heavy imports, and this page puts them together.

Users' own count as well: the entry points ``vla.envs`` of an installed package, and ``module:Name``. Either is an
`EnvSpec`, or a class of `RobotEnv` that is built from its settings.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from vla.core.errors import ConfigError, UnknownNameError
from vla.core.lookup import known_names, lookup
from vla.envs.fetch.table import FETCH
from vla.envs.metaworld.table import METAWORLD
from vla.envs.robosuite.table import ROBOSUITE
from vla.envs.spec import EnvSpec, Expert, RobotEnv
from vla.envs.tabletop.table import TABLETOP

ENVS: dict[str, EnvSpec] = {**TABLETOP, **ROBOSUITE, **METAWORLD, **FETCH}
GROUP = "vla.envs"
"""The entry point group of users' own."""


def env_spec(name: str) -> EnvSpec:
    """The environment called ``name``, or an error that lists those that exist."""
    found: Any = lookup("environment", name, ENVS, group=GROUP, listed_by="vla envs")
    if isinstance(found, EnvSpec):
        return found
    if isinstance(found, type) and hasattr(found, "reset") and hasattr(found, "step"):
        return _spec_of(found)
    raise ConfigError(f"environment {name}: expected an EnvSpec or a class of RobotEnv, got {found!r}")


def make_expert(name: str, env: RobotEnv) -> Expert:
    """The expert of the environment called ``name``, bound to ``env``."""
    bind = env_spec(name).expert
    if bind is None:
        raise ConfigError(f"environment {name} has no scripted expert; vla envs lists those that have one")
    return bind(env)


def env_names() -> list[str]:
    """All environments: ours, then those that installed packages add."""
    return known_names(ENVS, group=GROUP)


def match(patterns: Sequence[str], *, with_expert: bool = False) -> tuple[list[str], list[str]]:
    """The environments that ``patterns`` mean, each once, and those that are left out since they are not installed.

    A name stands for itself. A pattern with ``*``, and ``all``, stand for what is installed and, if that is asked for,
    has an expert.
    """
    chosen: list[str] = []
    missing: list[str] = []
    for pattern in patterns:
        if pattern != "all" and "*" not in pattern:
            env_spec(pattern).require_installed(f"environment {pattern}")
            chosen.append(pattern)
            continue
        called = [name for name in env_names() if pattern == "all" or fnmatchcase(name, pattern)]
        fit = {name: env_spec(name) for name in called}
        fit = {name: spec for name, spec in fit.items() if spec.expert is not None or not with_expert}
        found = [name for name, spec in fit.items() if spec.is_installed]
        missing += [name for name, spec in fit.items() if not spec.is_installed]
        if not found:
            why = "is installed" if fit else "with an expert is called like that" if called else "is called like that"
            raise UnknownNameError(f"environments {pattern}: none {why}; vla envs lists all")
        chosen += found
    return list(dict.fromkeys(chosen)), list(dict.fromkeys(missing))


def _spec_of(env: type) -> EnvSpec:
    """What the class itself says, for one that comes without a description."""
    summary = (env.__doc__ or env.__name__).strip().splitlines()[0]
    return EnvSpec(
        make=partial(_build, env),
        expert=None,
        summary=summary,
        robot=str(getattr(env, "robot", "its own")),
        instruction="",
        max_steps=int(getattr(env, "max_steps", 0)),
    )


def _build(env: type, settings: Mapping[str, Any]) -> RobotEnv:
    try:
        built: RobotEnv = env(**settings)
    except TypeError as error:
        raise ConfigError(f"environment {env.__name__}: {error}; settings are the arguments of the class") from error
    return built
