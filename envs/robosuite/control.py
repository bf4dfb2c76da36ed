"""What an action does during one control period: joint targets by this suite's own law, or robosuite's OSC_POSE."""

from typing import Any, Protocol

import mujoco
import numpy as np

from vla.envs.robosuite.scene import Scene

OSC_STEP_M, OSC_STEP_RAD = 0.05, 0.5
"""What robosuite scales an OSC_POSE input of 1 to."""
STIFFNESS = 150.0
"""rad/s² per rad: what robosuite's own controllers use. Damping is critical."""
_DAMPING = 2 * np.sqrt(STIFFNESS)


class Control(Protocol):
    """Writes controls before each physics step."""

    def begin(self, action: np.ndarray) -> None:
        """Take the action of a new control period."""

    def apply(self) -> None:
        """Write ``data.ctrl`` for the next physics step; positions and velocities are up to date."""

    def memory(self) -> np.ndarray:
        """float64 (m,): what a later period depends on beyond MuJoCo's state."""

    def remember(self, memory: np.ndarray) -> None:
        """Put back what `memory` returned."""


class JointControl:
    """Absolute joint targets (rad) and the gripper's opening (m); it keeps nothing from one period to the next.

    τ = M (k (q* − q) − d q̇) + bias, as robosuite's JOINT_POSITION with absolute input, clipped to the motors' limits.
    By MuJoCo's product with M: BLAS rounds otherwise with another number of threads, and episodes would differ.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        limits = scene.model.actuator_ctrlrange[scene.arm_actuators]
        self._low, self._high = limits[:, 0].copy(), limits[:, 1].copy()
        self._acceleration, self._torque = np.zeros(scene.model.nv), np.zeros(scene.model.nv)
        self._target = np.zeros(len(scene.arm_qpos))

    def begin(self, action: np.ndarray) -> None:
        """Set the targets."""
        gripper, data = self._scene.robot.gripper, self._scene.data
        self._target = action[:-1]
        ratio = (action[-1] - gripper.low_m) / (gripper.high_m - gripper.low_m)
        closed, opened = np.array(gripper.closed), np.array(gripper.opened)
        data.ctrl[self._scene.gripper_actuators] = closed + ratio * (opened - closed)

    def apply(self) -> None:
        """Write the torques of the arm."""
        scene = self._scene
        data, dofs = scene.data, scene.arm_dofs
        self._acceleration[dofs] = STIFFNESS * (self._target - data.qpos[scene.arm_qpos]) - _DAMPING * data.qvel[dofs]
        mujoco.mj_mulM(scene.model, data, self._torque, self._acceleration)
        torque = self._torque[dofs] + data.qfrc_bias[dofs]
        data.ctrl[scene.arm_actuators] = np.minimum(np.maximum(torque, self._low), self._high)

    def memory(self) -> np.ndarray:
        """Nothing."""
        return np.zeros(0)

    def remember(self, memory: np.ndarray) -> None:
        """Nothing to do."""


class OscControl:
    """robosuite's default controller: a change of the tool's pose, and whether the gripper opens or closes.

    Its gripper moves by a fifth of its range in each period, in the direction of the action's sign, and remembers where
    it was sent.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._action, self._first = np.zeros(7), True

    def begin(self, action: np.ndarray) -> None:
        """Take the action: in m and rad where robosuite's is a ratio, and larger opens where robosuite's closes."""
        self._action, self._first = np.array([*action[:3] / OSC_STEP_M, *action[3:6] / OSC_STEP_RAD, -action[6]]), True

    def apply(self) -> None:
        """Let robosuite's controllers write the controls."""
        self._scene.suite_env.robots[0].control(self._action, policy_step=self._first)
        self._first = False

    def memory(self) -> np.ndarray:
        """Where the gripper was sent, in robosuite's units."""
        return np.array(self._gripper.current_action, dtype=np.float64)

    def remember(self, memory: np.ndarray) -> None:
        """Put it back."""
        self._gripper.current_action = np.array(memory)

    @property
    def _gripper(self) -> Any:
        return self._scene.suite_env.robots[0].gripper["right"]


CONTROLS: dict[str, type[JointControl] | type[OscControl]] = {"joint": JointControl, "osc": OscControl}
