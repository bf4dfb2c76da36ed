"""Environments by name: each suite has a table of its own, free of heavy imports, and this page puts them together."""

from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.envs.fetch.table import FETCH
from vla.envs.metaworld.table import METAWORLD
from vla.envs.robosuite.table import ROBOSUITE
from vla.envs.spec import EnvSpec, Expert, RobotEnv
from vla.envs.tabletop.table import TABLETOP

ENVS: dict[str, EnvSpec] = {**TABLETOP, **ROBOSUITE, **METAWORLD, **FETCH}


def env_spec(name: str) -> EnvSpec:
    """The environment called ``name``, or an error that lists those that exist."""
    return lookup("environment", name, ENVS)


def make_expert(name: str, env: RobotEnv) -> Expert:
    """The expert of the environment called ``name``, bound to ``env``."""
    bind = env_spec(name).expert
    if bind is None:
        raise ConfigError(f"environment {name} has no scripted expert; vla envs lists those that have one")
    return bind(env)
