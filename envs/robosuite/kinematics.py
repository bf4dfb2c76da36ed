"""Inverse kinematics of a robosuite arm by damped least squares on MuJoCo's own Jacobian.

Buss, "Introduction to inverse kinematics with Jacobian transpose, pseudoinverse and damped least squares", 2004.
"""

import mujoco
import numpy as np
from jaxtyping import Float

_DAMPING = 1e-4
_POSTURE_GAIN = 0.1
_EYE = np.eye(6)


class ArmKinematics:
    """Solves for joint angles on a scratch `mujoco.MjData`, so that the simulation's state is never touched."""

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        joints: list[str],
        site: int,
        home_rad: Float[np.ndarray, " d"],
        limits_rad: tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]],
    ) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._site = site
        self._qpos = np.array([model.joint(name).qposadr[0] for name in joints])
        self._dofs = np.array([model.joint(name).dofadr[0] for name in joints])
        self._home, (self._low, self._high) = home_rad, limits_rad
        self._jacobian = np.zeros((6, model.nv))

    def solve(
        self,
        q_rad: Float[np.ndarray, " d"],
        position_m: Float[np.ndarray, "3"],
        rotation: Float[np.ndarray, "3 3"],
        *,
        iterations: int = 5,
    ) -> Float[np.ndarray, " d"]:
        """Joint angles near ``q_rad`` that bring the tool to a world pose, within the joint limits.

        A redundant degree of freedom is drawn towards the home posture, so that equal poses lead to about equal
        joint angles: a policy can then learn the map.
        """
        q = np.array(q_rad, dtype=np.float64)
        error, step = np.empty(6), np.empty(6)
        for _ in range(iterations):
            position, turned = self.forward(q)
            error[:3] = position_m - position
            error[3:] = rotation_error(rotation, turned)
            mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site)
            jacobian = self._jacobian[:, self._dofs]  # (6, d)
            posture = _POSTURE_GAIN * (self._home - q)
            # J⁺(e − J p) + p: reach the pose, and move the posture in the null space of reaching it.
            # By einsum and MuJoCo: BLAS rounds otherwise with another number of threads, and episodes would differ.
            gram = np.einsum("ij,kj->ik", jacobian, jacobian) + _DAMPING * _EYE
            mujoco.mju_cholFactor(gram, 0.0)
            mujoco.mju_cholSolve(step, gram, error - np.einsum("ij,j->i", jacobian, posture))
            q = q + np.einsum("ij,i->j", jacobian, step) + posture
            q = np.minimum(np.maximum(q, self._low), self._high)
        return q

    def forward(self, q_rad: Float[np.ndarray, " d"]) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]]:
        """Position (m) and rotation of the tool in the world."""
        self._data.qpos[self._qpos] = q_rad
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)  # the Jacobian is computed about the centre of mass
        return self._data.site_xpos[self._site].copy(), self._data.site_xmat[self._site].reshape(3, 3).copy()


def rotation_error(wanted: Float[np.ndarray, "3 3"], now: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    """The rotation vector (axis times angle, world frame, rad) that turns ``now`` into ``wanted``."""
    quat_wxyz, vector = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quat_wxyz, np.einsum("ij,kj->ik", wanted, now).ravel())
    mujoco.mju_quat2Vel(vector, quat_wxyz, 1.0)
    return vector


def turned(now: Float[np.ndarray, "3 3"], vector_rad: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """``now`` turned by a rotation vector in the world frame."""
    angle = float(np.linalg.norm(vector_rad))
    if angle < 1e-12:
        return now
    quat_wxyz, matrix = np.empty(4), np.empty(9)
    mujoco.mju_axisAngle2Quat(quat_wxyz, vector_rad / angle, angle)
    mujoco.mju_quat2Mat(matrix, quat_wxyz)
    return np.asarray(np.einsum("ij,jk->ik", matrix.reshape(3, 3), now))
