"""Where a tool is, and how to get it elsewhere: what moving a tool by keys takes, by robot."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from vla.core.lookup import lookup


@runtime_checkable
class Kinematics(Protocol):
    """A chain of joints with a tool at its end."""

    @property
    def joints(self) -> tuple[str, ...]:
        """Their names, in the order of ``q_rad``."""

    def tool_m(self, q_rad: Float64[np.ndarray, " j"]) -> Float64[np.ndarray, "3"]:
        """Where the tool is, in the robot's base frame."""

    def reach(self, q_rad: Float64[np.ndarray, " j"], tool_m: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, " j"]:
        """Joints near ``q_rad`` that bring the tool to ``tool_m``, or as near as they can."""


class TabletopKinematics:
    """The simulator's own inverse kinematics, on a model of its own: the simulation goes on in another thread."""

    def __init__(self) -> None:
        from vla.envs.tabletop.scene.arm import JOINTS
        from vla.envs.tabletop.scene.mjcf import Scene
        from vla.envs.tabletop.scene.world import World

        self._chain = World(Scene()).kinematics
        self.joints = tuple(f"joint{i + 1}" for i in range(JOINTS))

    def tool_m(self, q_rad: Float64[np.ndarray, "7"]) -> Float64[np.ndarray, "3"]:
        """The point between the fingers."""
        return self._chain.forward(q_rad)[0]

    def reach(self, q_rad: Float64[np.ndarray, "7"], tool_m: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "7"]:
        """Pointing down."""
        return self._chain.solve(q_rad, tool_m, iterations=12)


KINEMATICS: dict[str, Callable[[], Kinematics]] = {"tabletop-panda": TabletopKinematics}
"""By the robot that a contract names; users' own come as entry points ``vla.kinematics`` or ``module:Name``."""


def find_kinematics(name: str) -> Kinematics:
    """That of a robot, or one that is named."""
    return lookup("kinematics", name, KINEMATICS, group="vla.kinematics")()
