"""The expert of `door`: fingers around the lever, press it until the latch is free, pull along the hinge's arc.

The hand leans away from the door, which it would otherwise meet. Memoryless: every decision follows from where things
are now.
"""

import numpy as np

from vla.envs.robosuite.env import RobosuiteEnv
from vla.envs.robosuite.experts.motion import Servo

_LEVER_M = (0.120, 0.10)
"""Where the lever is held: along it from its pivot, and out of the door."""
_DEPTH_M = 0.014
"""How far the tool reaches beyond the lever's middle."""
_LEAN_RAD = 0.70
_CAGE_M = 0.052
"""The gripper's opening while it holds the lever loosely, so that the lever can turn between the fingers."""
_FREE_RAD = 0.95
"""The latch is free of the frame from about here on."""
_AJAR_RAD = 0.03
_SLIPPED_RAD = 0.25
"""A lever turned further than this, and not held, is kept down by the hand."""
_PRESS_RAD, _PULL_RAD = 0.45, 0.22
"""How far ahead of the lever and of the door the target is."""


class DoorExpert:
    """Computes the joint targets of the next step."""

    def __init__(self, env: RobosuiteEnv) -> None:
        self._env, self._servo = env, Servo(env.scene)

    def action(self) -> np.ndarray:
        """float32 (d,): joint targets (rad) and the gripper's opening (m)."""
        servo, scene = self._servo, self._env.scene
        axes = scene.body_rotation("Door_latch").copy()
        lever, normal = axes[:, 0], -axes[:, 1]
        rotation = self._leaning(normal)
        held = self._held(lever, normal)
        grip = scene.body_m("Door_latch") + held + _DEPTH_M * rotation[:, 2]
        off = np.einsum("ji,j->i", rotation, scene.tool_m - grip)  # along closing, across, along the approach
        caged = abs(off[0]) < 0.025 and abs(off[1]) < 0.04 and -0.02 < off[2] < 0.03
        hinge, turned = scene.data.joint("Door_hinge"), abs(scene.joint("Door_latch_joint"))
        ajar = float(hinge.qpos[0]) > _AJAR_RAD
        if not caged and not ajar and turned > _SLIPPED_RAD:  # the hand lies on the lever: let it spring back
            return servo.action(scene.tool_m - 0.10 * rotation[:, 2], rotation, servo.open_m)
        if not caged:
            beside = float(np.linalg.norm(off[:2])) + 0.08 * servo.misaligned_rad(rotation)
            clearance = float(np.clip((beside - 0.008) * 5.0, 0.0, 0.12))
            return servo.action(grip - clearance * rotation[:, 2], rotation, servo.open_m)
        if turned < _FREE_RAD and not ajar:
            return servo.action(grip + _about(normal, held, -_PRESS_RAD) - held, rotation, _CAGE_M)
        down = np.array([0.0, 0.0, 0.0 if ajar else -0.02])
        pulled = hinge.xanchor + _about(hinge.xaxis, grip - hinge.xanchor, _PULL_RAD)
        return servo.action(pulled + down, rotation, servo.closed_m)

    def _held(self, lever: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """From the lever's pivot to where it is held."""
        return _LEVER_M[0] * lever + _LEVER_M[1] * normal

    def _leaning(self, normal: np.ndarray) -> np.ndarray:
        """The tool's rotation: it closes across the lever and leans back from the door."""
        up = np.array([0.0, 0.0, 1.0])
        z = -np.sin(_LEAN_RAD) * normal - np.cos(_LEAN_RAD) * up
        x = np.cos(_LEAN_RAD) * normal - np.sin(_LEAN_RAD) * up
        if float(np.einsum("i,i->", x, self._servo.home_rotation[:, 0])) < 0:
            x = -x
        return np.column_stack([x, np.cross(z, x), z])


def _about(axis: np.ndarray, vector: np.ndarray, angle_rad: float) -> np.ndarray:
    """A vector turned about a unit axis (Rodrigues)."""
    along = axis * float(np.einsum("i,i->", axis, vector))
    return np.asarray(along + np.cos(angle_rad) * (vector - along) + np.sin(angle_rad) * np.cross(axis, vector))
