"""Experts that pick a thing up and put it somewhere: `lift`, `stack` and `pick-place`.

Every decision follows from where things are now, never from a phase or a timer.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from vla.envs.robosuite.env import RobosuiteEnv
from vla.envs.robosuite.experts.motion import Servo


@dataclass(frozen=True, kw_only=True)
class Pick:
    """How one thing is held and where it goes, in metres."""

    symmetry: int
    """Ways to close on it in a full turn that are as good."""
    axis: int = 0
    """Which of the thing's own axes, x or y, the fingers close along."""
    width_m: float
    """Across the fingers."""
    grip_m: float
    """The tool's height above the thing's centre while it holds it."""
    carry_m: float
    """Height (world) of the thing's centre while it travels."""
    release_m: float | None
    """How far above its resting place the thing is let go; None to lift it only."""
    turn_m: float = 0.02
    """How far a radian of misaligned fingers counts as being beside it."""
    walls_m: tuple[float, float] | None = None
    """Half the inner size of the bin that it stands in, for things so flat that the hand could meet the walls."""
    neighbour: str | None = None
    """A body that may stand beside it."""
    place_m: tuple[float, float] = (0.0, 0.0)
    """Where it is put, horizontally from the task's goal."""


PICKS: dict[str, Pick] = {
    "lift": Pick(symmetry=4, width_m=0.042, grip_m=0.0, carry_m=0.95, release_m=None),
    "stack": Pick(symmetry=4, width_m=0.040, grip_m=0.004, carry_m=0.92, release_m=0.004, neighbour="cubeB_main"),
    "pick-place-milk": Pick(symmetry=4, width_m=0.040, grip_m=0.046, carry_m=1.03, release_m=0.008),
    "pick-place-bread": Pick(
        symmetry=4, width_m=0.048, grip_m=0.012, carry_m=0.98, release_m=0.030, walls_m=(0.19, 0.24)
    ),
    "pick-place-cereal": Pick(
        symmetry=2, width_m=0.030, grip_m=0.046, carry_m=1.04, release_m=0.008, turn_m=0.05, axis=1
    ),
    "pick-place-can": Pick(
        symmetry=4, width_m=0.050, grip_m=0.014, carry_m=1.00, release_m=0.030, place_m=(-0.05, -0.065)
    ),
}
_NEAR_M = 0.012
_SLACK_M = 0.012
_PLACED_M = 0.05
_HAND_M = (0.105, 0.035)
"""Half the size of the hand along and across its closing direction."""
_BESIDE_M = 0.11


class PickExpert:
    """Computes the joint targets of the next step."""

    def __init__(self, env: RobosuiteEnv) -> None:
        self._env, self._pick = env, PICKS[env.name]
        self._servo = Servo(env.scene)

    def action(self) -> np.ndarray:
        """float32 (d,): joint targets (rad) and the gripper's opening (m)."""
        env, pick, scene = self._env, self._pick, self._env.scene
        thing = scene.body_m(env.task.body).copy()
        axes = scene.body_rotation(env.task.body)
        level = axes[:, pick.axis] if abs(axes[2, pick.axis]) < 0.7 else axes[:, 1 - pick.axis]
        if env.grasped and scene.opening_m < pick.width_m + _SLACK_M:
            down = self._servo.pointing_down(level, symmetry=pick.symmetry, keep=True)
            position, opening = self._carry(scene.tool_m, thing)
        elif self._placed(thing):
            down = self._servo.pointing_down(level, symmetry=pick.symmetry, keep=True)
            position, opening = scene.tool_m + np.array([0.0, 0.0, 0.08]), self._servo.open_m
        else:
            down = self._servo.pointing_down(level, symmetry=pick.symmetry, hindrance=partial(self._hindrance, thing))
            position, opening = self._approach(scene.tool_m, thing, self._servo.misaligned_rad(down))
        return self._servo.action(position, down, opening)

    def _placed(self, thing: np.ndarray) -> bool:
        """Whether it lies where it belongs, so that only the gripper has to go."""
        if self._pick.release_m is None:
            return False
        off = thing - self._env.task.goal(self._env.scene) - np.array([*self._pick.place_m, 0.0])
        return bool(np.linalg.norm(off[:2]) < _PLACED_M and off[2] < self._pick.release_m + 0.01)

    def _hindrance(self, thing: np.ndarray, direction: np.ndarray) -> float:
        """How much is in the way (m) if the gripper closes on the thing along a direction."""
        scene = self._env.scene
        if self._pick.neighbour is not None:
            way = scene.body_m(self._pick.neighbour) - thing
            return abs(float(way[0] * direction[0] + way[1] * direction[1])) if np.linalg.norm(way) < _BESIDE_M else 0.0
        if self._pick.walls_m is None:
            return 0.0
        across = np.array([-direction[1], direction[0]])
        hand = _HAND_M[0] * np.abs(direction[:2]) + _HAND_M[1] * np.abs(across)
        free = np.array(self._pick.walls_m) - np.abs(thing[:2] - scene.body_m("bin1")[:2])
        return float(max(0.0, *(hand - free)))

    def _approach(self, tool: np.ndarray, thing: np.ndarray, turn_rad: float) -> tuple[np.ndarray, float]:
        """Come down over the thing in a funnel, and close around it at its height."""
        pick, servo, opening_m = self._pick, self._servo, self._env.scene.opening_m
        grip = thing + np.array([0.0, 0.0, pick.grip_m - self._env.scene.robot.gripper.sink_m])
        beside = float(np.linalg.norm(tool[:2] - grip[:2])) + pick.turn_m * turn_rad
        closing = pick.width_m - 0.012 < opening_m < servo.open_m - 0.015  # a thing may be pushed while fingers close
        if tool[2] < grip[2] + (0.020 if closing else 0.008) and beside < (0.025 if closing else _NEAR_M):
            return grip, servo.closed_m
        if opening_m < pick.width_m + _SLACK_M and tool[2] < grip[2] + 0.05:
            return np.array([*tool[:2], grip[2] + 0.09]), servo.open_m  # never push it with closed fingers
        clearance = float(np.clip((beside - 0.006) * 6.0, 0.0, 0.10))
        return grip + np.array([0.0, 0.0, clearance]), servo.open_m

    def _carry(self, tool: np.ndarray, thing: np.ndarray) -> tuple[np.ndarray, float]:
        """Lift, travel, come down in a funnel over the goal, and let go just above it."""
        pick, servo = self._pick, self._servo
        slip = tool - thing
        if pick.release_m is None:
            return np.array([*thing[:2], pick.carry_m]) + slip, servo.closed_m
        goal = self._env.task.goal(self._env.scene) + np.array([*pick.place_m, pick.release_m])
        beside = float(np.linalg.norm(thing[:2] - goal[:2]))
        if beside < _NEAR_M and thing[2] < goal[2] + 0.004:
            return goal + slip, servo.open_m
        if thing[2] < pick.carry_m - 0.03 and beside > 0.06:
            return np.array([*thing[:2], pick.carry_m]) + slip, servo.closed_m  # clear of others before travelling
        clearance = float(np.clip((beside - 0.008) * 4.0, 0.0, pick.carry_m - goal[2]))
        return goal + np.array([0.0, 0.0, clearance]) + slip, servo.closed_m
