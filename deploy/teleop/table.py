"""Teleoperators by name; users' own come from their packages (entry points ``vla.teleoperators``) or ``module:Name``.

Each is made with the robot that it drives and its settings, and is a policy of one step a chunk.
"""

from collections.abc import Callable, Mapping
from typing import Any

from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.core.types import Policy
from vla.deploy.robots.robot import Robot
from vla.deploy.teleop.keyboard import Keyboard
from vla.deploy.teleop.leader import Leader

TELEOPERATORS: dict[str, Callable[..., Policy]] = {"keyboard": Keyboard, "leader": Leader}


def make_teleoperator(name: str, robot: Robot, settings: Mapping[str, Any]) -> Policy:
    """What lets a person drive ``robot``."""
    maker = lookup("teleoperator", name, TELEOPERATORS, group="vla.teleoperators")
    try:
        made = maker(robot, **settings)
    except TypeError as error:
        raise ConfigError(
            f"teleoperator {name} does not take these settings ({error}); see {maker.__module__}"
        ) from error
    if not isinstance(made, Policy):
        raise ConfigError(f"teleoperator {name} gives {type(made).__name__}, which is no vla.core.types.Policy")
    return made
