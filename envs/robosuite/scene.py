"""One built robosuite environment as the rest of this suite sees it: poses, contacts, the arm and its gripper."""

from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from vla.envs.robosuite.kinematics import ArmKinematics
from vla.envs.robosuite.loading import make_suite_env
from vla.envs.robosuite.robots import Robot

_ARM_PREFIX, _GRIPPER_PREFIX = "robot0_", "gripper0_right_"


class Scene:
    """Names resolved to indices of one model; positions in m and rotations in the world frame."""

    def __init__(self, suite_name: str, *, robot_name: str, robot: Robot, control_hz: float) -> None:
        self.suite_env: Any = make_suite_env(suite_name, robot=robot_name, control_hz=control_hz)
        self.model: mujoco.MjModel = self.suite_env.sim.model._model
        self.data: mujoco.MjData = self.suite_env.sim.data._data
        self.robot = robot
        joints = [_ARM_PREFIX + name for name in robot.joints]
        self.arm_qpos = np.array([self.model.joint(name).qposadr[0] for name in joints])
        self.arm_dofs = np.array([self.model.joint(name).dofadr[0] for name in joints])
        driven = self.model.actuator_trnid[:, 0].tolist()
        self.arm_actuators = np.array([driven.index(self.model.joint(name).id) for name in joints])
        for name in robot.no_contact:
            geom = self.model.geom(_ARM_PREFIX + name)
            geom.contype, geom.conaffinity = 0, 0
        gripper = robot.gripper
        self.gripper_actuators = np.array([self.model.actuator(_GRIPPER_PREFIX + n).id for n in gripper.actuators])
        self._pads = np.array([self.model.geom(_GRIPPER_PREFIX + name).id for name in gripper.pads])
        self._fingers = tuple(
            np.array([self.model.geom(_GRIPPER_PREFIX + name).id for name in side]) for side in gripper.fingers
        )
        self.tool = self.model.site(_GRIPPER_PREFIX + "grip_site").id
        self.base = self.model.body(_ARM_PREFIX + "base").id
        self.kinematics = ArmKinematics(
            self.model,
            joints=joints,
            site=self.tool,
            home_rad=np.array(robot.home_rad),
            limits_rad=(np.array(robot.low_rad), np.array(robot.high_rad)),
        )

    @property
    def arm_rad(self) -> Float[np.ndarray, " d"]:
        """Joint angles."""
        return np.asarray(self.data.qpos[self.arm_qpos])

    @property
    def tool_m(self) -> Float[np.ndarray, "3"]:
        """Position of the point between the fingertips."""
        return np.asarray(self.data.site_xpos[self.tool])

    @property
    def tool_rotation(self) -> Float[np.ndarray, "3 3"]:
        """The tool's axes as columns: x is the closing direction, z points out of the hand."""
        return np.asarray(self.data.site_xmat[self.tool]).reshape(3, 3)

    @property
    def opening_m(self) -> float:
        """Free width between the pads."""
        left, right = self.data.geom_xpos[self._pads]
        return float(np.linalg.norm(left - right)) - 2 * self.robot.gripper.pad_half_m

    def body_m(self, name: str) -> Float[np.ndarray, "3"]:
        """Position of a body."""
        return np.asarray(self.data.body(name).xpos)

    def body_rotation(self, name: str) -> Float[np.ndarray, "3 3"]:
        """The axes of a body as columns."""
        return np.asarray(self.data.body(name).xmat).reshape(3, 3)

    def site_m(self, name: str) -> Float[np.ndarray, "3"]:
        """Position of a site."""
        return np.asarray(self.data.site(name).xpos)

    def joint(self, name: str) -> float:
        """Position of a joint with one degree of freedom."""
        return float(self.data.joint(name).qpos[0])

    def in_base(self, point_m: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
        """A point in the frame of the arm's base."""
        rotation = self.data.xmat[self.base].reshape(3, 3)
        return np.asarray(np.einsum("ji,j->i", rotation, point_m - self.data.xpos[self.base]))

    def geoms_of(self, body: str) -> np.ndarray:
        """Indices of the geoms of a body."""
        return np.flatnonzero(self.model.geom_bodyid == self.model.body(body).id)

    def touching(self, geoms: np.ndarray) -> tuple[bool, bool]:
        """Whether the left and the right finger touch one of the geoms."""
        pairs = self.data.contact.geom
        mine = pairs[np.isin(pairs, geoms).any(axis=1)]
        return bool(np.isin(mine, self._fingers[0]).any()), bool(np.isin(mine, self._fingers[1]).any())
