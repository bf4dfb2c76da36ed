"""Scripted experts: memoryless functions of the simulator's state, one for each kind of task."""

from typing import Any

from vla.core.errors import ConfigError
from vla.envs.robosuite.env import RobosuiteEnv
from vla.envs.robosuite.experts.door import DoorExpert
from vla.envs.robosuite.experts.nut import NutExpert
from vla.envs.robosuite.experts.pick import PICKS, PickExpert
from vla.envs.spec import Expert

_KINDS: dict[str, Any] = {
    **dict.fromkeys(PICKS, PickExpert),
    "nut-assembly-square": NutExpert,
    "nut-assembly-round": NutExpert,
    "door": DoorExpert,
}


def make_expert(env: RobosuiteEnv) -> Expert:
    """The expert of the environment's task."""
    if env.config.control != "joint":
        raise ConfigError(f"robosuite/{env.name}: the expert commands joints; use control=joint")
    expert: Expert = _KINDS[env.name](env)
    return expert
