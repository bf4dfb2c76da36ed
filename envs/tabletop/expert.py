"""A scripted expert for ``tabletop/place``: a memoryless function of the simulator's state.

Every decision follows from where things are now, never from a phase or a timer. So it recovers from whatever
disturbance comes, it can label states that another policy has reached, and its demonstrations hold no pauses whose
length an observer could not know: what is to be learned is a function of what can be seen.
"""

import numpy as np

from vla.envs.tabletop.place import JOINTS, PlaceEnv
from vla.envs.tabletop.scene import BLOCK_HALF_M, GRIPPER_OPEN_M, PLATE_HEIGHT_M

_CARRY_M = 0.13
"""Height of the tool above the table while it travels."""
_GRASP_M = 0.024
_RELEASE_M = PLATE_HEIGHT_M + BLOCK_HALF_M + 0.006
_STEP_M = 0.055
"""Longest way of the tool in one control step."""
_FREE_WIDTH_M = 2 * BLOCK_HALF_M + 0.012
_CLOSED_M = 2 * BLOCK_HALF_M - 0.02


class PlaceExpert:
    """Computes the joint targets of the next step from the state of ``env``."""

    def __init__(self, env: PlaceEnv) -> None:
        self._env = env

    def action(self) -> np.ndarray:
        """float32 (8,): joint targets (rad) and gripper opening (m)."""
        env = self._env
        tcp = env.data.site("tcp").xpos
        target, width = self._plan(tcp)
        step = target - tcp
        step *= min(1.0, _STEP_M / (np.linalg.norm(step) + 1e-9))
        joints = env.kinematics.solve(env.data.qpos[:JOINTS], tcp + step)
        return np.append(joints, width).astype(np.float32)

    def _plan(self, tcp: np.ndarray) -> tuple[np.ndarray, float]:
        """Where the tool should go (base frame, m) and how far the gripper should open (m)."""
        env = self._env
        block, plate = env.block_m(env.goal.block), env.plate_m(env.goal.plate)
        width = float(env.state()[-1])
        above_plate = np.linalg.norm(block[:2] - plate[:2])
        if above_plate < 0.03 and block[2] < PLATE_HEIGHT_M + BLOCK_HALF_M + 0.004:
            return self._retreat(tcp, width)
        if all(env.touching(env.goal.block)) and width < _FREE_WIDTH_M:
            return self._carry(tcp, block, plate, float(above_plate))
        return self._approach(tcp, block, width)

    def _approach(self, tcp: np.ndarray, block: np.ndarray, width: float) -> tuple[np.ndarray, float]:
        """Come down over the block in a funnel, and close around it at its height."""
        beside = np.linalg.norm(tcp[:2] - block[:2])
        height = max(float(block[2]), _GRASP_M)
        if beside < 0.012 and tcp[2] < height + 0.010:
            return np.array([*block[:2], height]), _CLOSED_M
        clearance = float(np.clip((beside - 0.008) * 4.0, 0.0, _CARRY_M - height))
        if width < _FREE_WIDTH_M and tcp[2] < height + 0.06:
            return np.array([*tcp[:2], height + 0.10]), GRIPPER_OPEN_M  # never push the block with closed fingers
        return np.array([*block[:2], height + clearance]), GRIPPER_OPEN_M

    def _carry(self, tcp: np.ndarray, block: np.ndarray, plate: np.ndarray, beside: float) -> tuple[np.ndarray, float]:
        """Lift, travel, come down in a funnel over the plate, and let go just above it."""
        slip = tcp - block
        over_plate = plate[:2] + slip[:2]
        release = _RELEASE_M + slip[2]
        if beside < 0.015 and tcp[2] < release + 0.006:
            return np.array([*over_plate, release]), GRIPPER_OPEN_M
        clearance = float(np.clip((beside - 0.010) * 4.0, 0.0, _CARRY_M - release))
        if tcp[2] < 0.075 and beside > 0.06:  # lift clear of other blocks before travelling
            return np.array([*tcp[:2], _CARRY_M]), _CLOSED_M
        return np.array([*over_plate, release + clearance]), _CLOSED_M

    def _retreat(self, tcp: np.ndarray, width: float) -> tuple[np.ndarray, float]:
        """Open fully, then rise."""
        height = 0.20 if width > _FREE_WIDTH_M - 0.004 else tcp[2]
        return np.array([*tcp[:2], height]), GRIPPER_OPEN_M
