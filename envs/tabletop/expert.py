"""The scripted expert of every tabletop family: the family's plan, and inverse kinematics."""

import numpy as np

from vla.envs.tabletop.env import TabletopEnv
from vla.envs.tabletop.scene.arm import JOINTS


class TabletopExpert:
    """Computes the joint targets of the next step from the state of ``env``; it has no memory."""

    def __init__(self, env: TabletopEnv) -> None:
        self._env = env

    def action(self) -> np.ndarray:
        """float32 (8,): joint targets (rad) and gripper opening (m)."""
        world = self._env.world
        tool = world.tool_m()
        move = self._env.task.plan(self._env.situation)
        step = move.tool_m - tool
        step *= min(1.0, move.step_m / (np.linalg.norm(step) + 1e-9))
        joints = world.kinematics.solve(world.data.qpos[:JOINTS], tool + step)
        return np.append(joints, move.width_m).astype(np.float32)
