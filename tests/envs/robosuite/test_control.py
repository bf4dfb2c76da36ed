"""What an action does: the same as robosuite's own controllers, and what the contract says."""

import numpy as np
import pytest

from vla.core.errors import ConfigError
from vla.envs.robosuite.config import RobosuiteConfig
from vla.envs.robosuite.control import STIFFNESS
from vla.envs.robosuite.env import RobosuiteEnv
from vla.envs.robosuite.experts.table import make_expert
from vla.envs.robosuite.loading import import_robosuite


def test_joint_targets_move_the_arm_as_robosuites_joint_position_controller(lift: RobosuiteEnv) -> None:
    suite = import_robosuite()
    config = suite.load_composite_controller_config(robot="Panda")
    config["body_parts"] = {
        "right": {
            "type": "JOINT_POSITION",
            "input_type": "absolute",
            "kp": STIFFNESS,
            "damping_ratio": 1,
            "impedance_mode": "fixed",
            "interpolation": None,
            "gripper": {"type": "GRIP"},
        }
    }
    theirs = suite.make(
        "Lift",
        robots="Panda",
        controller_configs=config,
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        use_object_obs=False,
        hard_reset=False,
        renderer="mujoco",
        seed=0,
    )
    theirs.reset()
    theirs.robots[0].gripper["right"].format_action = lambda action: np.array([1.0, -1.0])  # open at once, like ours
    lift.reset(seed=0)
    data = theirs.sim.data._data
    lift.data.qpos[:], lift.data.qvel[:], lift.data.qacc_warmstart[:] = data.qpos, data.qvel, data.qacc_warmstart
    lift.restore(lift.sim_state())
    rng, home = np.random.default_rng(0), np.array(lift.scene.robot.home_rad)
    moved = 0.0
    for _ in range(25):
        target = (home + rng.uniform(-0.25, 0.25, 7)).astype(np.float32)
        theirs.step(np.append(target, -1.0))
        lift.step(np.append(target, 0.08).astype(np.float32))
        ours = lift.data.qpos[lift.scene.arm_qpos]
        np.testing.assert_allclose(ours, data.qpos[lift.scene.arm_qpos], atol=1e-6)
        moved = max(moved, float(np.abs(ours - home).max()))
    assert moved > 0.1
    theirs.close()


def test_the_gripper_opens_as_far_as_it_is_told(lift: RobosuiteEnv) -> None:
    lift.reset(seed=0)
    arm = lift.scene.arm_rad.astype(np.float32)
    for opening in (0.08, 0.02, 0.05):
        for _ in range(12):
            observation, *_ = lift.step(np.append(arm, np.float32(opening)))
        assert observation["state"][-1] == pytest.approx(opening, abs=0.004)
    np.testing.assert_allclose(observation["state"][:7], arm, atol=0.01)


def test_osc_moves_the_tool_by_metres_and_larger_opens() -> None:
    env = RobosuiteEnv("lift", RobosuiteConfig(control="osc", collision_geometry=True, image_size=16))
    env.reset(seed=0)
    assert [d.unit for d in env.contract.action] == ["m"] * 3 + ["rad"] * 3 + ["1"]
    start = env.scene.tool_m.copy()
    for _ in range(10):
        env.step(np.array([0.02, 0.02, 0, 0, 0, 0, 1], np.float32))
    moved = env.scene.tool_m - start
    assert (moved[:2] > 0.04).all()
    assert abs(moved[2]) < 0.02
    assert env.scene.opening_m > 0.07
    kept, action = env.sim_state(), np.array([0, -0.03, 0, 0, 0, 0.2, -1], np.float32)
    for _ in range(3):
        env.step(action)
    expected = env.sim_state()
    assert env.scene.opening_m < 0.07
    env.restore(kept)
    for _ in range(3):
        env.step(action)
    np.testing.assert_array_equal(env.sim_state(), expected)
    with pytest.raises(ConfigError, match="use control=joint"):
        make_expert(env)
    env.close()
