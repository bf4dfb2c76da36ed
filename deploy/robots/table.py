"""Robots by name; users' own come from their packages (entry points ``vla.robots``) or as ``module:Name``."""

from collections.abc import Callable, Mapping
from typing import Any

from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.deploy.robots.emulated import emulated_dynamixel, emulated_feetech
from vla.deploy.robots.lerobot import LeRobotRobot
from vla.deploy.robots.real import servo_robot, so101
from vla.deploy.robots.robot import Robot
from vla.deploy.robots.rosbridge import RosBridgeRobot
from vla.deploy.robots.simulated import SimulatedRobot
from vla.deploy.robots.ur import UrRobot

ROBOTS: dict[str, Callable[..., Robot]] = {
    "simulated": SimulatedRobot,
    "tabletop": SimulatedRobot,
    "emulated-dynamixel": emulated_dynamixel,
    "emulated-feetech": emulated_feetech,
    "servos": servo_robot,
    "so101": so101,
    "lerobot": LeRobotRobot,
    "rosbridge": RosBridgeRobot,
    "ur": UrRobot,
}


def make_robot(name: str, settings: Mapping[str, Any]) -> Robot:
    """Connect to the robot called ``name`` with the keyword arguments ``settings``."""
    maker = lookup("robot", name, ROBOTS, group="vla.robots")
    try:
        robot = maker(**settings)
    except TypeError as error:
        where = getattr(maker, "__module__", type(maker).__module__)
        raise ConfigError(f"robot {name} does not take these settings ({error}); see {where}") from error
    if not isinstance(robot, Robot):
        found = type(robot).__name__
        raise ConfigError(f"robot {name} gives {found}, which lacks part of vla.deploy.robots.robot.Robot")
    return robot
