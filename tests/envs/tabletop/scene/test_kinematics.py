"""Inverse kinematics undoes forward kinematics over the whole work area."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.envs.tabletop.env import TabletopEnv
from vla.envs.tabletop.scene.arm import HOME_RAD, JOINT_HIGH_RAD, JOINT_LOW_RAD
from vla.envs.tabletop.scene.kinematics import InverseKinematics
from vla.envs.tabletop.scene.mjcf import AREA_M

HOME = np.array(HOME_RAD)
X, Y, Z = st.floats(*AREA_M[0]), st.floats(*AREA_M[1]), st.floats(0.02, 0.28)


@pytest.fixture(scope="module")
def kinematics(env: TabletopEnv) -> InverseKinematics:
    return InverseKinematics(env.world.model)


@given(x=X, y=Y, z=Z)
def test_forward_undoes_solve(kinematics: InverseKinematics, x: float, y: float, z: float) -> None:
    q = kinematics.solve(HOME, np.array([x, y, z]), iterations=30)
    position, rotation = kinematics.forward(q)
    assert np.linalg.norm(position - [x, y, z]) < 0.5e-3
    np.testing.assert_allclose(rotation, np.diag([1.0, -1.0, -1.0]), atol=5e-3)  # x forward, z down
    assert (q >= JOINT_LOW_RAD).all()
    assert (q <= JOINT_HIGH_RAD).all()


@given(x=st.floats(-2, 2), y=st.floats(-2, 2), z=st.floats(-1, 2))
def test_limits_hold_out_of_reach_too(kinematics: InverseKinematics, x: float, y: float, z: float) -> None:
    q = kinematics.solve(HOME, np.array([x, y, z]), iterations=30)
    assert (q >= JOINT_LOW_RAD).all()
    assert (q <= JOINT_HIGH_RAD).all()


def test_solving_leaves_the_simulation_alone(env: TabletopEnv) -> None:
    env.reset(seed=0)
    before = env.world.data.qpos.copy(), env.world.data.site("tcp").xpos.copy()
    env.world.kinematics.solve(HOME, np.array([0.5, 0.1, 0.1]))
    np.testing.assert_array_equal(env.world.data.qpos, before[0])
    np.testing.assert_array_equal(env.world.data.site("tcp").xpos, before[1])
