"""The experts solve their tasks, remember nothing, and their episodes replay open loop."""

from typing import Any

import numpy as np
import pytest

from vla.envs.disturbance import Disturbance
from vla.envs.open_loop import replay_open_loop
from vla.envs.recording import record_episode
from vla.envs.robosuite.config import RobosuiteConfig
from vla.envs.robosuite.env import RobosuiteEnv
from vla.envs.robosuite.experts.table import make_expert
from vla.envs.robosuite.robots import ROBOTS
from vla.envs.robosuite.words import WORDS

QUICK = ("stack", "pick-place-can", "door", "nut-assembly-square")


def _env(task: str, **settings: Any) -> RobosuiteEnv:
    return RobosuiteEnv(task, RobosuiteConfig(collision_geometry=True, image_size=16, **settings))


def _check_replays(env: RobosuiteEnv, seeds: range) -> None:
    for seed in seeds:
        episode = record_episode(env, make_expert(env), task=env.name, seed=seed)
        assert episode.success, seed
        assert 2 * len(episode) <= env.max_steps
        assert episode.sim_state is not None
        env.reset(seed=seed + 1000)
        replayed = replay_open_loop(env, episode)
        assert replayed.agrees
        assert replayed.success
        assert replayed.steps == len(episode)
        assert replayed.state_error == replayed.sim_state_error == replayed.image_error == 0.0


def test_lift_succeeds_and_replays(lift: RobosuiteEnv) -> None:
    _check_replays(lift, range(100, 102))


@pytest.mark.parametrize("task", QUICK)
def test_it_succeeds_and_replays(task: str) -> None:
    env = _env(task)
    _check_replays(env, range(101, 102))
    env.close()


@pytest.mark.long
@pytest.mark.parametrize("task", WORDS)
def test_five_episodes_of_every_task_succeed_and_replay(task: str) -> None:
    env = _env(task)
    _check_replays(env, range(200, 205))
    env.close()


@pytest.mark.parametrize("robot", ["UR5e", "Sawyer", "IIWA"])
def test_other_arms_lift_and_are_as_the_table_says(robot: str) -> None:
    env = _env("lift", robot=robot)
    _check_table(env, robot)
    assert env.contract.robot == f"robosuite-{robot.lower()}"
    for seed in range(2):
        observation, _ = env.reset(seed=seed)
        expert, terminated, truncated = make_expert(env), False, False
        while not (terminated or truncated):
            assert env.observation_space.contains(observation)
            observation, _, terminated, truncated, _ = env.step(expert.action())
        assert terminated
    env.close()


def test_the_panda_is_as_the_table_says(lift: RobosuiteEnv) -> None:
    _check_table(lift, "Panda")


def _check_table(env: RobosuiteEnv, name: str) -> None:
    """Names, limits, home pose, and how far the gripper goes, against robosuite's own model."""
    robot, theirs = ROBOTS[name], env.scene.suite_env.robots[0]
    assert [f"robot0_{joint}" for joint in robot.joints] == list(theirs.robot_joints)
    ranges = np.array([env.model.joint(joint).range for joint in theirs.robot_joints])
    np.testing.assert_allclose(ranges, np.column_stack([robot.low_rad, robot.high_rad]), atol=1e-5)
    np.testing.assert_allclose(theirs.init_qpos, robot.home_rad, atol=1e-4)
    gripper = robot.gripper
    assert {f"gripper0_right_{a}" for a in gripper.actuators} == set(theirs.gripper["right"].actuators)
    env.reset(seed=0)
    arm = np.array(robot.home_rad, np.float32)
    for opening in (gripper.high_m, gripper.low_m):
        for _ in range(25):
            env.step(np.append(arm, np.float32(opening)))
        assert env.scene.opening_m == pytest.approx(opening, abs=0.006)


def test_it_has_no_memory(lift: RobosuiteEnv) -> None:
    lift.reset(seed=0)
    expert = make_expert(lift)
    for _ in range(15):
        action = expert.action()
        np.testing.assert_array_equal(make_expert(lift).action(), action)
        np.testing.assert_array_equal(expert.action(), action)
        lift.step(action)


def test_it_recovers_from_pushes(lift: RobosuiteEnv) -> None:
    push = Disturbance(episode_share=1.0, noise_rad=0.04, offset_rad=0.08)
    episodes = [record_episode(lift, make_expert(lift), task="lift", seed=s, disturbance=push) for s in range(8)]
    assert sum(bool(episode.success) for episode in episodes) >= 7
    assert any(np.abs(e.action - e.action_executed).max() > 0.05 for e in episodes)
