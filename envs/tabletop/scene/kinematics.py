"""Inverse kinematics of the arm by damped least squares on MuJoCo's own Jacobian.

Buss, "Introduction to inverse kinematics with Jacobian transpose, pseudoinverse and damped least squares", 2004.
"""

import mujoco
import numpy as np
from jaxtyping import Float

from vla.envs.tabletop.scene.arm import HOME_RAD, JOINT_HIGH_RAD, JOINT_LOW_RAD

_DAMPING = 1e-4
_POSTURE_GAIN = 0.1
_JOINTS = len(HOME_RAD)
_HOME = np.array(HOME_RAD)
_EYE = np.eye(6)


class InverseKinematics:
    """Solves for joint angles on a scratch `mujoco.MjData`, so that the simulation's state is never touched."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._site = model.site("tcp").id
        self._jacobian = np.zeros((6, model.nv))

    def solve(
        self, q_rad: Float[np.ndarray, "7"], tcp_base_m: Float[np.ndarray, "3"], *, iterations: int = 4
    ) -> Float[np.ndarray, "7"]:
        """Joint angles near ``q_rad`` that bring the tool to ``tcp_base_m`` pointing down, within the joint limits.

        The redundant degree of freedom is drawn towards the home posture, so that equal tool positions lead to
        about equal joint angles: a policy can then learn the map.
        """
        q = np.array(q_rad, dtype=np.float64)
        error, step = np.empty(6), np.empty(6)
        for _ in range(iterations):
            position, rotation = self.forward(q)
            error[:3] = tcp_base_m - position
            error[3:] = _rotation_error(rotation)
            mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site)
            jacobian = self._jacobian[:, :_JOINTS]  # (6, 7): the arm's joints come first
            posture = _POSTURE_GAIN * (_HOME - q)
            # J⁺(e − J p) + p: reach the pose, and move the posture in the null space of reaching it.
            # By einsum and MuJoCo: BLAS rounds otherwise with another number of threads, and episodes would differ.
            gram = np.einsum("ij,kj->ik", jacobian, jacobian) + _DAMPING * _EYE
            mujoco.mju_cholFactor(gram, 0.0)
            mujoco.mju_cholSolve(step, gram, error - np.einsum("ij,j->i", jacobian, posture))
            q = q + np.einsum("ij,i->j", jacobian, step) + posture
            q = np.minimum(np.maximum(q, JOINT_LOW_RAD), JOINT_HIGH_RAD)
        return q

    def forward(self, q_rad: Float[np.ndarray, "7"]) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]]:
        """Position (m) and rotation of the tool in the base frame."""
        self._data.qpos[:_JOINTS] = q_rad
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)  # the Jacobian is computed about the centre of mass
        return self._data.site_xpos[self._site].copy(), self._data.site_xmat[self._site].reshape(3, 3)


def _rotation_error(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    """Small-angle vector in the base frame that turns ``rotation`` into x forward, y right, z down.

    Half the sum of the cross products of the tool's axes with the wanted ones (1,0,0), (0,-1,0), (0,0,-1).
    """
    (_, r01, r02), (r10, _, r12), (r20, r21, _) = rotation
    return np.array([0.5 * (r21 - r12), 0.5 * (r20 + r02), -0.5 * (r10 + r01)])
