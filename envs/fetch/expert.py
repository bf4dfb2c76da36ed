"""Scripted experts for Fetch: memoryless functions of the simulator's state, so they recover from any push."""

import numpy as np

from vla.envs.adapter.env import GymnasiumEnv
from vla.envs.fetch.setups import FINGER_OPEN_M, STEP_M

_HALF_M = 0.025
"""Half an edge of the block."""
_CLOSED_M = 2 * _HALF_M + 0.004
"""Between the fingers when they hold the block."""
_GAIN = 0.8
"""Share of the way to the target that one step asks for; the arm lags behind the target it is given."""


def _action(way_m: np.ndarray, opening: float) -> np.ndarray:
    """float32 (4,): the longest step along ``way_m`` that the limits allow, and the gripper."""
    move = way_m * _GAIN / STEP_M
    return np.append(move / max(1.0, float(np.abs(move).max())), opening).astype(np.float32)


class ReachExpert:
    """Straight to the red ball."""

    def __init__(self, env: GymnasiumEnv) -> None:
        self._env = env

    def action(self) -> np.ndarray:
        """float32 (4,): the gripper's move; its fingers are locked."""
        observed = self._env.observed
        return _action(observed["desired_goal"] - observed["achieved_goal"], 0.0)


class PickAndPlaceExpert:
    """Comes down over the block in a funnel, closes, and carries it."""

    def __init__(self, env: GymnasiumEnv) -> None:
        self._env = env

    def action(self) -> np.ndarray:
        """float32 (4,): the gripper's move and its opening."""
        observed = self._env.observed
        numbers = observed["observation"]
        hand, block, opening_m = numbers[:3], numbers[3:6], float(numbers[9] + numbers[10])
        beside = float(np.linalg.norm(hand[:2] - block[:2]))
        above = float(hand[2] - block[2])
        around = beside < 0.012 and abs(above) < 0.012
        if around and opening_m < _CLOSED_M:
            return _action(observed["desired_goal"] - block, -1.0)
        if around:
            return _action(block - hand, -1.0)
        if above < 0.06 and beside > 0.02 and opening_m < 2 * FINGER_OPEN_M - 0.02:
            return _action(np.array([0.0, 0.0, 0.1]), 1.0)  # up first: never shove the block with closed fingers
        clearance = float(np.clip((beside - 0.006) * 4.0, 0.0, 0.10))
        if opening_m < 2 * FINGER_OPEN_M - 0.03:
            clearance = max(clearance, min(above, 0.08))  # open before coming down
        return _action(block + np.array([0.0, 0.0, clearance]) - hand, 1.0)


class PushExpert:
    """Goes behind the block, seen from the ball, and pushes along the line between them."""

    def __init__(self, env: GymnasiumEnv) -> None:
        self._env = env

    def action(self) -> np.ndarray:
        """float32 (4,): the gripper's move; its fingers are locked."""
        observed = self._env.observed
        hand, block, goal = observed["observation"][:3], observed["observation"][3:6], observed["desired_goal"]
        way = goal[:2] - block[:2]
        ahead = way / (np.linalg.norm(way) + 1e-9)
        offset = hand[:2] - block[:2]
        along, across = float(offset @ ahead), float(offset[0] * ahead[1] - offset[1] * ahead[0])
        behind = block[:2] - ahead * 0.06
        low = block[2] - 0.005
        if along < -0.02 and abs(across) < 0.012 and hand[2] < block[2] + 0.03:
            push = ahead * min(0.04, float(np.linalg.norm(way)) + 0.01) - across * np.array([ahead[1], -ahead[0]])
            return _action(np.array([*push, low - hand[2]]), 0.0)
        far = float(np.linalg.norm(hand[:2] - behind))
        if far < 0.015:
            return _action(np.array([*(behind - hand[:2]), low - hand[2]]), 0.0)
        travel = block[2] + 0.07  # over the block, not into it
        if hand[2] < travel - 0.015:
            return _action(np.array([0.0, 0.0, travel - hand[2]]), 0.0)
        return _action(np.array([*(behind - hand[:2]), travel - hand[2]]), 0.0)
