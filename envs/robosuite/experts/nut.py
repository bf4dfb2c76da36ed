"""The expert of `nut-assembly`: hold a nut by its handle and bring it over its peg.

The handle is turned towards the arm, where the peg is within reach. Memoryless: every decision follows from where
things are now.
"""

import numpy as np

from vla.envs.robosuite.env import RobosuiteEnv
from vla.envs.robosuite.experts.motion import Servo

_WIDTH_M = 0.032
"""Of the handle, across the fingers."""
_SLACK_M = 0.012
_CARRY_M = 1.00
"""Height (world) of the nut while it travels: above the pegs, which end at 0.95."""
_RELEASE_M = 0.925
_AROUND_M = 0.945
_NEAR_M = 0.010
_OUTWARD_M = 0.010
"""How far out from robosuite's site on the handle the fingers close: nearer, they meet the nut itself."""
_TURNED_RAD = 0.12
_ROUND_RAD = 0.8
"""How far the handle of the round nut may point off: its hole fits in any direction."""
_AT_ONCE_RAD = 1.2
"""Longest turn that is asked for in a step: of a longer one, the hand would take the short way round."""
_MARGIN_RAD = 0.25
"""Of the last joint, kept free at its limits."""


class NutExpert:
    """Computes the joint targets of the next step."""

    def __init__(self, env: RobosuiteEnv) -> None:
        self._env, self._servo = env, Servo(env.scene)
        self._square = env.name.endswith("square")
        robot = env.scene.robot
        # Seen from above, the tool of a hand that points down turns against its last joint.
        self._yaw_low = robot.home_rad[-1] - robot.high_rad[-1] + _MARGIN_RAD
        self._yaw_high = robot.home_rad[-1] - robot.low_rad[-1] - _MARGIN_RAD

    def action(self) -> np.ndarray:
        """float32 (d,): joint targets (rad) and the gripper's opening (m)."""
        env, servo, scene = self._env, self._servo, self._env.scene
        nut, axes = scene.body_m(env.task.body).copy(), scene.body_rotation(env.task.body)
        peg = env.task.goal(scene)
        beside = float(np.linalg.norm(nut[:2] - peg[:2]))
        held = env.grasped and scene.opening_m < _WIDTH_M + _SLACK_M
        if beside < 0.02 and nut[2] < _AROUND_M and not (held and nut[2] > _RELEASE_M):
            return servo.action(scene.tool_m.copy(), self._turned(0.0), servo.open_m)
        if held:
            return self._carry(nut, axes, peg, beside)
        return self._approach(axes)

    def _approach(self, axes: np.ndarray) -> np.ndarray:
        """Come down over the handle in a funnel, and close around it."""
        servo, scene = self._servo, self._env.scene
        grip = scene.site_m(self._env.task.grip) + _OUTWARD_M * axes[:, 0]
        wanted = self._closing(axes)
        down = servo.pointing_down(wanted, symmetry=1)
        turn = servo.misaligned_rad(down)
        if turn > _AT_ONCE_RAD:
            down = self._turned(self._unwrapped(wanted) - self._unwrapped(scene.tool_rotation[:, 0]))
        tool = scene.tool_m
        beside = float(np.linalg.norm(tool[:2] - grip[:2])) + 0.03 * turn
        if beside < _NEAR_M and tool[2] < grip[2] + 0.008:
            return servo.action(grip, down, servo.closed_m)
        if scene.opening_m < _WIDTH_M + _SLACK_M and tool[2] < grip[2] + 0.04:
            return servo.action(np.array([*tool[:2], grip[2] + 0.08]), down, servo.open_m)
        clearance = float(np.clip((beside - 0.006) * 5.0, 0.0, 0.10))
        return servo.action(grip + np.array([0.0, 0.0, clearance]), down, servo.open_m)

    def _closing(self, axes: np.ndarray) -> np.ndarray:
        """The direction across the handle from which the nut can be turned into place without passing a limit."""
        across = np.array([axes[0, 1], axes[1, 1], 0.0])
        yaw = self._yaw_from_home(-across)  # held like this, the tool is at home when the handle points to the arm
        return -across if self._yaw_low < yaw < min(self._yaw_high, np.pi - 0.1) else across

    def _yaw_from_home(self, closing: np.ndarray) -> float:
        home = self._servo.home_rotation[:, 0]
        sine = home[0] * closing[1] - home[1] * closing[0]
        return float(np.arctan2(sine, home[0] * closing[0] + home[1] * closing[1]))

    def _unwrapped(self, closing: np.ndarray) -> float:
        """The same without a jump within what the last joint can do."""
        yaw = self._yaw_from_home(closing)
        return yaw + 2 * np.pi if yaw < self._yaw_low else yaw

    def _turned(self, angle_rad: float) -> np.ndarray:
        """The tool's present rotation, pointing straight down and turned, but not by more than is right in a step."""
        angle_rad = min(max(angle_rad, -_AT_ONCE_RAD), _AT_ONCE_RAD)
        x, y = self._env.scene.tool_rotation[:2, 0]
        cos, sin = np.cos(angle_rad), np.sin(angle_rad)
        return self._servo.pointing_down(np.array([cos * x - sin * y, sin * x + cos * y, 0.0]), symmetry=1)

    def _carry(self, nut: np.ndarray, axes: np.ndarray, peg: np.ndarray, beside: float) -> np.ndarray:
        """Lift, turn and travel, come down over the peg, and let go when the nut is around it."""
        servo, scene = self._servo, self._env.scene
        turn = self._turn(axes)
        down = self._turned(turn)
        arm = scene.tool_m - nut
        over = np.einsum("ij,kj,k->i", down, scene.tool_rotation, arm)
        if nut[2] < _CARRY_M - 0.04 and beside > 0.03:
            return servo.action(np.array([*nut[:2], _CARRY_M]) + arm, self._turned(0.0), servo.closed_m)
        aligned = beside < _NEAR_M and (abs(turn) < _TURNED_RAD or not self._square)
        height = _RELEASE_M - 0.01 if aligned or (beside < 0.02 and nut[2] < _AROUND_M) else _CARRY_M
        target = np.array([*peg[:2], height]) + over
        return servo.action(target, down, servo.closed_m)

    def _turn(self, axes: np.ndarray) -> float:
        """How far the nut has to be turned (rad), and which way round, so that its handle points to the arm."""
        handle = axes[:2, 0]
        turn = float(np.arctan2(handle[1], -handle[0]))
        yaw = self._unwrapped(self._env.scene.tool_rotation[:, 0])
        if yaw + turn < self._yaw_low:
            turn += 2 * np.pi
        elif yaw + turn > self._yaw_high:
            turn -= 2 * np.pi
        if self._square:
            return turn
        return float(np.sign(turn)) * max(0.0, abs(turn) - _ROUND_RAD)
