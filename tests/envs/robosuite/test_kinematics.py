"""Inverse kinematics reaches poses, stays within limits, and turns what it is asked to turn."""

import mujoco
import numpy as np
import pytest

from vla.envs.robosuite.env import RobosuiteEnv
from vla.envs.robosuite.kinematics import rotation_error, turned


def test_forward_agrees_with_the_simulation(lift: RobosuiteEnv) -> None:
    lift.reset(seed=0)
    scene = lift.scene
    position, rotation = scene.kinematics.forward(scene.arm_rad)
    np.testing.assert_allclose(position, scene.tool_m, atol=1e-9)
    np.testing.assert_allclose(rotation, scene.tool_rotation, atol=1e-9)


def test_poses_are_reached_within_the_limits_and_the_simulation_is_not_touched(lift: RobosuiteEnv) -> None:
    lift.reset(seed=0)
    scene, before = lift.scene, lift.sim_state()
    home = np.array(scene.robot.home_rad)
    rng = np.random.default_rng(0)
    position, rotation = scene.kinematics.forward(home)
    for _ in range(20):
        wanted = position + rng.uniform(-0.1, 0.1, 3)
        tilted = turned(rotation, rng.uniform(-0.4, 0.4, 3))
        q = scene.kinematics.solve(home, wanted, tilted, iterations=40)
        reached, axes = scene.kinematics.forward(q)
        np.testing.assert_allclose(reached, wanted, atol=2e-3)
        assert np.linalg.norm(rotation_error(tilted, axes)) < 5e-3
        assert ((q >= scene.robot.low_rad) & (q <= scene.robot.high_rad)).all()
    far = scene.kinematics.solve(home, position + 5.0, rotation, iterations=40)
    assert ((far >= scene.robot.low_rad) & (far <= scene.robot.high_rad)).all()
    np.testing.assert_array_equal(lift.sim_state(), before)


@pytest.mark.parametrize("angle", [1e-6, 0.3, 1.5, 3.0])
def test_turning_and_measuring_a_turn_are_inverse(angle: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        quat, matrix, axis = rng.normal(size=4), np.empty(9), rng.normal(size=3)
        mujoco.mju_quat2Mat(matrix, quat / np.linalg.norm(quat))
        vector = angle * axis / np.linalg.norm(axis)
        now = matrix.reshape(3, 3)
        np.testing.assert_allclose(rotation_error(turned(now, vector), now), vector, atol=1e-7)
