"""From where the tool should go to the joint targets of one step."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from vla.envs.robosuite.kinematics import rotation_error, turned
from vla.envs.robosuite.scene import Scene

_STEP_M = 0.09
"""Longest lead of the target over the tool: at the arm's stiffness, about 0.5 m/s."""
_STEP_RAD = 0.6
_DOWN = np.array([0.0, 0.0, -1.0])


class Servo:
    """Leads the tool of one arm towards a pose; a function of the present state alone."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        _, home = scene.kinematics.forward(np.array(scene.robot.home_rad))
        self.home_rotation = home
        closing = np.array([home[0, 0], home[1, 0], 0.0])
        self._home_closing = closing / np.linalg.norm(closing)
        gripper = scene.robot.gripper
        self.open_m, self.closed_m = gripper.high_m, gripper.low_m

    def misaligned_rad(self, rotation: Float[np.ndarray, "3 3"]) -> float:
        """The angle between the tool's present rotation and another."""
        return float(np.linalg.norm(rotation_error(rotation, self._scene.tool_rotation.copy())))

    def action(
        self,
        position_m: Float[np.ndarray, "3"],
        rotation: Float[np.ndarray, "3 3"],
        opening_m: float,
        *,
        lead_m: float = _STEP_M,
    ) -> np.ndarray:
        """float32 (d,): joint targets (rad) and opening (m) that lead the tool towards a world pose."""
        scene = self._scene
        tool, axes = scene.tool_m.copy(), scene.tool_rotation.copy()
        way = position_m - tool
        way *= min(1.0, lead_m / (float(np.linalg.norm(way)) + 1e-9))
        turn = rotation_error(rotation, axes)
        turn *= min(1.0, _STEP_RAD / (float(np.linalg.norm(turn)) + 1e-9))
        joints = scene.kinematics.solve(scene.arm_rad.copy(), tool + way, turned(axes, turn))
        return np.append(joints, min(max(opening_m, self.closed_m), self.open_m)).astype(np.float32)

    def pointing_down(
        self,
        closing: Float[np.ndarray, "3"],
        *,
        symmetry: int = 2,
        hindrance: Callable[[np.ndarray], float] = lambda direction: 0.0,
        keep: bool = False,
    ) -> Float[np.ndarray, "3 3"]:
        """The rotation with the tool down and closing along ``closing`` (horizontal), nearest to the home pose.

        ``symmetry`` says how many directions are as good in a full turn: 2 for a bar, 4 for a cube. ``hindrance``
        says how much is in the way of a direction, and counts first. ``keep`` takes the direction that is nearest to
        the present one instead of the home pose's.
        """
        closing = np.array([closing[0], closing[1], 0.0])
        length = float(np.linalg.norm(closing))
        along = closing / length if length > 1e-6 else self._home_closing
        across = np.array([-along[1], along[0], 0.0])
        reference = self._scene.tool_rotation[:, 0] if keep else self._home_closing
        angles = np.arange(symmetry) * (2 * np.pi / symmetry)
        choices = [np.cos(angle) * along + np.sin(angle) * across for angle in angles]

        def preference(choice: np.ndarray) -> tuple[float, float]:
            return -round(hindrance(choice), 6), float(np.einsum("i,i->", choice, reference))

        x = max(choices, key=preference)
        return np.column_stack([x, np.cross(_DOWN, x), _DOWN])
