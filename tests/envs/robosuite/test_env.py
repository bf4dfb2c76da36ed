"""``robosuite/…``: Gymnasium's contract, bitwise repeatability, and what success, progress and language mean."""

import hashlib
import os
import pickle
import subprocess
import sys
import warnings
from typing import Any

import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from vla.core.errors import ConfigError, UnknownNameError
from vla.envs.recording import record_episode
from vla.envs.robosuite.env import RobosuiteEnv
from vla.envs.robosuite.experts.table import make_expert
from vla.envs.robosuite.table import ROBOSUITE
from vla.envs.robosuite.words import WORDS


def _still(env: RobosuiteEnv) -> np.ndarray:
    return np.append(env.scene.arm_rad, env.scene.opening_m).astype(np.float32)


def _digest(env: RobosuiteEnv, seed: int, steps: int = 8) -> str:
    """Of everything that an episode shows: images, states, words, progress, signals."""
    digest = hashlib.sha256()
    observation, info = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        for image in observation["images"].values():
            digest.update(image.tobytes())
        digest.update(
            observation["state"].tobytes()
            + np.concatenate(list(info["signals"].values())).tobytes()
            + env.sim_state().tobytes()
        )
        digest.update(f"{observation['instruction']} {info['time_ns']} {info['progress']!r}".encode())
        action = _still(env) + rng.uniform(-0.15, 0.15, 8)
        observation, _, _, _, info = env.step(action.astype(np.float32))
    return digest.hexdigest()


def _put_cube(env: RobosuiteEnv, height_m: float) -> None:
    env.data.joint("cube_joint0").qpos[2] = height_m


def test_gymnasium_accepts_it(lift: RobosuiteEnv) -> None:
    with warnings.catch_warnings():
        # A recommendation for learning algorithms: our actions are radians and metres, on purpose.
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")
        check_env(lift, skip_render_check=True)  # that part wants a name in Gymnasium's own registry


def test_observations_fit_their_spaces_and_the_contract(lift: RobosuiteEnv) -> None:
    observation, info = lift.reset(seed=0)
    assert lift.observation_space.contains(observation)
    assert lift.render().shape == (256, 256, 3)
    assert [camera.name for camera in lift.contract.cameras] == list(observation["images"]) == ["agent", "wrist"]
    assert observation["state"].shape == (len(lift.contract.state),) == (8,)
    assert {name: len(signal) for name, signal in info["signals"].items()} == {"grounding": 6, "pointing": 8}
    low, high = np.array([(d.low, d.high) for d in lift.contract.state]).T
    assert ((observation["state"] >= low) & (observation["state"] <= high)).all()
    assert lift.contract.gripper == lift.contract.action[-1].name == "gripper"
    assert "robosuite" in lift.contract.versions


def test_one_seed_gives_one_episode_whatever_ran_before(lift: RobosuiteEnv) -> None:
    first = _digest(lift, 3)
    assert _digest(lift, 4, steps=20) != first
    lift.reset(seed=9)
    lift.step(np.full(8, 3.0))  # a violent end of an episode that nobody finished
    lift.reset()
    assert _digest(lift, 3) == first


def test_a_copy_in_another_process_with_other_threads_sees_the_same_episode(lift: RobosuiteEnv) -> None:
    code = (
        f"import runpy, pickle; m = runpy.run_path({__file__!r}); "
        f"print(m['_digest'](pickle.loads({pickle.dumps(lift)!r}), 3))"
    )
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, timeout=200)
    assert run.stdout.split()[-1:] == [_digest(lift, 3)], run.stderr


def test_seeds_vary_the_scene(lift: RobosuiteEnv) -> None:
    cubes = []
    for seed in range(6):
        lift.reset(seed=seed)
        cubes.append([*lift.data.joint("cube_joint0").qpos[:7], *lift.scene.arm_rad])
    assert len(np.unique(np.round(cubes, 9)[:, 0])) == len(np.unique(np.round(cubes, 9)[:, -1])) == 6


def test_a_state_is_all_that_the_next_step_depends_on(lift: RobosuiteEnv) -> None:
    lift.reset(seed=5)
    expert = make_expert(lift)
    for _ in range(12):
        lift.step(expert.action())
    kept, actions, seen = lift.sim_state(), [], []
    for _ in range(6):
        actions.append(expert.action())
        observation, *_ = lift.step(actions[-1])
        seen.append((observation, lift.sim_state()))
    lift.reset(seed=1)
    lift.step(np.full(8, 1.0))
    lift.reset(seed=5)
    restored = lift.restore(kept)
    np.testing.assert_array_equal(lift.sim_state(), kept)
    assert restored["instruction"] == seen[0][0]["instruction"]
    for action, (expected, state) in zip(actions, seen, strict=True):
        observation, *_ = lift.step(action)
        np.testing.assert_array_equal(lift.sim_state(), state)
        for name, image in expected["images"].items():
            np.testing.assert_array_equal(observation["images"][name], image)


def test_success_is_robosuites_and_ends_the_episode(lift: RobosuiteEnv) -> None:
    lift.reset(seed=0)
    lift.step(_still(lift))
    _put_cube(lift, 0.90)
    _, reward, terminated, truncated, info = lift.step(_still(lift))
    assert (reward, terminated, truncated, info["success"], info["progress"]) == (1.0, True, False, True, 1.0)
    assert info["metrics"]["distance_m"] == 0.0


def test_progress_rises_to_one_with_the_expert(lift: RobosuiteEnv) -> None:
    lift.reset(seed=2)
    expert, progress, terminated = make_expert(lift), [], False
    while not terminated:
        _, _, terminated, truncated, info = lift.step(expert.action())
        progress.append(info["progress"])
        assert not truncated
        assert (info["progress"] == 1.0) == info["success"]
    assert (np.diff(progress) > -0.02).all()
    assert progress[0] < 0.2


def test_truncation_is_the_step_limit_and_not_success(lift: RobosuiteEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lift.max_steps == WORDS["lift"].max_steps
    monkeypatch.setattr(lift, "max_steps", 2)
    lift.reset(seed=0)
    assert [lift.step(_still(lift))[2:4] for _ in range(2)] == [(False, False), (False, True)]


def test_language(lift: RobosuiteEnv) -> None:
    said = {lift.reset(seed=seed)[0]["instruction"] for seed in range(20)}
    assert said == set(WORDS["lift"].phrases)
    right, blank = lift.reset(seed=1), lift.reset(seed=1, options={"language": "blank"})
    assert (blank[0]["instruction"], lift.instruction_alternatives) == ("", ())
    np.testing.assert_array_equal(right[0]["images"]["agent"], blank[0]["images"]["agent"])
    with pytest.raises(ConfigError, match="this scene has only one"):
        lift.reset(seed=1, options={"language": "wrong"})
    with pytest.raises(ConfigError, match="must be one of right, blank, wrong"):
        lift.reset(seed=1, options={"language": "loud"})


@pytest.mark.parametrize("action", [np.zeros(7), np.full(8, np.nan), np.zeros((1, 8))])
def test_impossible_actions(lift: RobosuiteEnv, action: np.ndarray) -> None:
    lift.reset(seed=0)
    with pytest.raises(ValueError, match="8 finite numbers"):
        lift.step(action)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"robot": "Baxter"}, "must be one of Panda, UR5e, Sawyer, IIWA"),
        ({"control": "torque"}, "must be one of joint, osc"),
        ({"control_hz": 30.0}, "control_hz=30.0 must divide the 500 Hz"),
        ({"control_hz": 0}, "control_hz=0.0 must divide"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"image_size": 4}, "image_size=4"),
        ({"collision": True}, "did you mean 'collision_geometry'"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        ROBOSUITE["robosuite/lift"].make(settings)


def test_a_simulation_that_diverges_is_a_crash(lift: RobosuiteEnv) -> None:
    lift.reset(seed=0)
    lift.data.joint("cube_joint0").qvel[:] = np.nan
    with pytest.raises(RuntimeError, match="diverged"):
        lift.step(_still(lift))
    lift.reset(seed=0)
    lift.step(_still(lift))


def test_settings_change_the_state_the_rate_and_the_horizon() -> None:
    settings = {"tool_pose": True, "max_steps": 7, "control_hz": 10, "image_size": 32, "collision_geometry": True}
    env = ROBOSUITE["robosuite/lift"].make(settings)
    observation, _ = env.reset(seed=0)
    assert (env.max_steps, env.step(_still(env))[-1]["time_ns"]) == (7, 100_000_000)
    assert env.observation_space.contains(observation)
    assert [d.name for d in env.contract.state][8:11] == ["tool_x", "tool_y", "tool_z"]
    x, y = observation["state"][11:14], observation["state"][14:17]
    np.testing.assert_allclose([x @ x, y @ y, x @ y], [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(np.cross(x, y), [0, 0, -1], atol=0.2)  # the hand points down
    env.close()


def test_recorded_states_carry_the_model_that_they_belong_to(lift: RobosuiteEnv) -> None:
    episode = record_episode(lift, make_expert(lift), task="robosuite/lift", seed=2)
    assert episode.success
    assert episode.sim_state is not None
    mujoco.MjModel.from_xml_string("<mujoco/>")  # another model of this process is not taken for it
    assert episode.model == lift.model_xml
    assert mujoco.MjModel.from_xml_string(episode.model).nq == lift.scene.suite_env.sim.model.nq
