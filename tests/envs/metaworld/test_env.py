"""``metaworld/…``: seeds, pictures, signs, success and language."""

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from vla.core.errors import ConfigError, UnknownNameError
from vla.envs.metaworld.env import UPSIDE_DOWN, MetaworldConfig, MetaworldEnv
from vla.envs.metaworld.expert import MetaworldExpert
from vla.envs.metaworld.table import METAWORLD
from vla.envs.spec import RobotEnv, SimulatorState

QUICK = MetaworldConfig(cameras=())
SEEING = MetaworldConfig(cameras=("corner2", "gripperPOV"), image_size=64)


@pytest.fixture(scope="module")
def env() -> Iterator[MetaworldEnv]:
    """One task with two cameras."""
    env = MetaworldEnv("drawer-open", SEEING)
    yield env
    env.close()


@pytest.fixture(scope="module")
def quick() -> MetaworldEnv:
    """The same task without cameras."""
    return MetaworldEnv("drawer-open", QUICK)


def _digest(env: MetaworldEnv, seed: int, steps: int = 8) -> str:
    """Of everything that an episode shows, and of the physics."""
    digest = hashlib.sha256()
    observation, info = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        for image in observation["images"].values():
            digest.update(image.tobytes())
        digest.update(observation["state"].tobytes() + env.privileged().tobytes() + env.sim_state().tobytes())
        digest.update(f"{observation['instruction']} {info['time_ns']} {info['progress']!r}".encode())
        observation, _, _, _, info = env.step(rng.uniform(-1, 1, 4).astype(np.float32))
    return digest.hexdigest()


def test_gymnasium_accepts_it(env: MetaworldEnv) -> None:
    assert isinstance(env, RobotEnv)
    assert isinstance(env, SimulatorState)
    check_env(env, skip_render_check=True)  # that part wants a name in Gymnasium's own registry


def test_one_seed_gives_one_episode_whatever_ran_before(env: MetaworldEnv) -> None:
    first = _digest(env, 3)
    assert _digest(env, 4) != first
    assert _digest(env, 3) == first
    fresh = pickle.loads(pickle.dumps(env))
    assert _digest(fresh, 3) == first
    fresh.close()


@pytest.mark.parametrize("task", ["door-lock", "stick-pull", "push"])
def test_tasks_forget_earlier_episodes(task: str) -> None:
    env = MetaworldEnv(task, QUICK)
    first = _digest(env, 1)
    _digest(env, 2)
    assert _digest(env, 1) == first == _digest(MetaworldEnv(task, QUICK), 1)


@pytest.mark.long
@pytest.mark.parametrize("name", METAWORLD)
def test_every_task_forgets_earlier_episodes(name: str) -> None:
    test_tasks_forget_earlier_episodes(name.removeprefix("metaworld/"))


def test_another_process_and_other_threads_see_the_same_episode(quick: MetaworldEnv) -> None:
    code = (
        f"import runpy; m = runpy.run_path({__file__!r}); "
        "print(m['_digest'](m['MetaworldEnv']('drawer-open', m['QUICK']), 3))"
    )
    expected = _digest(quick, 3)
    for threads in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            env={**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
        )
        assert run.stdout.split() == [expected]  # and nothing else is printed, on import neither
        assert run.stderr == ""


def test_seeds_move_the_goal_and_episodes_keep_it(quick: MetaworldEnv) -> None:
    goals = []
    for seed in range(5):
        quick.reset(seed=seed)
        goals.append(quick.privileged()[-3:])
        for _ in range(3):
            quick.step(np.ones(4, np.float32))
            np.testing.assert_array_equal(quick.privileged()[-3:], goals[-1])
    assert len({goal.tobytes() for goal in goals}) == 5


def test_numpys_global_random_numbers_are_left_alone(quick: MetaworldEnv) -> None:
    np.random.seed(0)  # noqa: NPY002  (what Meta-World would draw from, left to itself)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    quick.reset(seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_pictures_are_upright(env: MetaworldEnv) -> None:
    """The table says which cameras hang upside down, and the model agrees: their own up points down in the world."""
    env.reset(seed=0)
    for name, turned in UPSIDE_DOWN.items():
        up = env.data.camera(name).xmat.reshape(3, 3)[2, 1]
        assert up < 0 if turned else up > -1e-6, name


def test_a_raised_hand_is_higher_in_the_picture(env: MetaworldEnv) -> None:
    """The gripper's cyan finger, before and after going straight up."""
    env.reset(seed=0)

    def row() -> float:
        red, green, blue = np.moveaxis(env.render().astype(int), -1, 0)
        finger = (green - red > 60) & (blue - red > 60)
        assert finger.any()
        return float(np.argwhere(finger)[:, 0].mean())

    before = row()
    for _ in range(15):
        env.step(np.array([0, 0, 1, 0], np.float32))
    assert row() < before - 4


def test_larger_numbers_open_the_gripper_and_raise_the_hand(quick: MetaworldEnv) -> None:
    quick.reset(seed=0)
    openings, heights = [], []
    for sign in (-1, 1):
        for _ in range(25):
            observation, *_ = quick.step(np.array([0, 0, sign, sign], np.float32))
        openings.append(observation["state"][3])
        heights.append(observation["state"][2])
    assert openings[1] > openings[0] + 0.2
    assert heights[1] > heights[0] + 0.05


def test_a_move_of_one_is_a_centimetre_of_the_hands_target(quick: MetaworldEnv) -> None:
    quick.reset(seed=0)
    before = quick.data.mocap_pos[0].copy()
    quick.step(np.array([0.5, 0, 7.0, 0], np.float32))  # beyond the limits is clipped
    np.testing.assert_allclose(quick.data.mocap_pos[0] - before, [0.005, 0, 0.01], atol=1e-9)
    states = []
    for size in (1.0, 5.0):
        quick.reset(seed=0)
        quick.step(np.full(4, size, np.float32))
        states.append(quick.sim_state())
    np.testing.assert_array_equal(states[0], states[1])


def test_a_state_is_restored_bit_for_bit(env: MetaworldEnv) -> None:
    env.reset(seed=5)
    expert = MetaworldExpert(env)
    for _ in range(12):
        observation, *_ = env.step(expert.action())
    state, seen = env.sim_state(), env.privileged()
    onwards = [env.step(np.full(4, 0.3, np.float32))[0] for _ in range(5)][-1]
    back = env.restore(state)
    np.testing.assert_array_equal(env.sim_state(), state)
    np.testing.assert_array_equal(env.privileged(), seen)
    again = [env.step(np.full(4, 0.3, np.float32))[0] for _ in range(5)][-1]
    for here, there in ((back, observation), (again, onwards)):
        np.testing.assert_array_equal(here["state"], there["state"])
        for name, image in here["images"].items():
            np.testing.assert_array_equal(image, there["images"][name])


@pytest.mark.parametrize("task", ["drawer-open", "window-close", "reach"])
def test_success_ends_the_episode_and_nothing_else_does(task: str) -> None:
    env = MetaworldEnv(task, QUICK)
    _, info = env.reset(seed=0)
    assert (info["success"], info["time_ns"]) == (False, 0)
    expert, progress, terminated = MetaworldExpert(env), [info["progress"]], False
    for step in range(1, 501):
        _, _, terminated, truncated, info = env.step(expert.action())
        progress.append(info["progress"])
        assert info["time_ns"] == step * 12_500_000
        assert info["success"] is terminated
        assert not truncated
        if terminated:
            break
    assert terminated
    assert progress[-1] == 1.0
    assert all(0 <= value < 1 for value in progress[:-1])
    assert max(progress[:-1]) > progress[0] + 0.2


def test_truncation_is_the_step_limit() -> None:
    env = MetaworldEnv("reach", MetaworldConfig(cameras=(), max_steps=3))
    env.reset(seed=0)
    still = np.zeros(4, np.float32)
    assert [env.step(still)[2:4] for _ in range(4)] == [(False, False), (False, False), (False, True), (False, True)]


def test_all_tasks_have_one_contract_and_observations_fit_it() -> None:
    contracts = set()
    for task in ("drawer-open", "stick-pull", "reach"):
        env = MetaworldEnv(task, QUICK)
        contracts.add(env.contract.digest())
        observation, _ = env.reset(seed=0)
        low, high = ([getattr(d, side) for d in env.contract.state] for side in ("low", "high"))
        assert (np.array(low) <= observation["state"]).all()
        assert (observation["state"] <= np.array(high)).all()
    assert len(contracts) == 1
    assert env.contract.versions["metaworld"]


def test_privileged_observations() -> None:
    env = MetaworldEnv("stick-pull", MetaworldConfig(cameras=(), privileged=True))
    observation, _ = env.reset(seed=0)
    names = [dimension.name for dimension in env.contract.state]
    assert len(set(names)) == len(names) == len(observation["state"]) == 39
    np.testing.assert_array_equal(observation["state"], env.privileged().astype(np.float32))
    assert names[:4] == ["hand_x", "hand_y", "hand_z", "gripper"]
    assert env.observation_space.contains(observation)


def test_language(quick: MetaworldEnv) -> None:
    right, _ = quick.reset(seed=0)
    state = quick.sim_state()
    assert right["instruction"] == quick.instruction == "open the drawer"
    assert len(quick.instruction_alternatives) >= 2
    blank, _ = quick.reset(seed=0, options={"language": "blank"})
    assert (blank["instruction"], quick.instruction_alternatives) == ("", ())
    np.testing.assert_array_equal(quick.sim_state(), state)
    with pytest.raises(ConfigError, match="a scene of Meta-World holds one"):
        quick.reset(seed=0, options={"language": "wrong"})
    with pytest.raises(ConfigError, match="right, blank, wrong"):
        quick.reset(seed=0, options={"language": "rihgt"})


@pytest.mark.parametrize("action", [np.zeros(3), np.full(4, np.nan), np.zeros((1, 4))])
def test_impossible_actions(quick: MetaworldEnv, action: np.ndarray) -> None:
    quick.reset(seed=0)
    with pytest.raises(ValueError, match="4 finite numbers"):
        quick.step(action)


def test_settings_are_checked() -> None:
    make = METAWORLD["metaworld/reach"].make
    with pytest.raises(ConfigError, match="did you mean 'cameras'"):
        make({"camera": "corner2"})
    with pytest.raises(UnknownNameError, match="did you mean 'corner2'"):
        make({"cameras": ["corner2x"]})
    with pytest.raises(ConfigError, match="max_steps=0"):
        make({"max_steps": 0})


def test_large_pictures() -> None:
    env = MetaworldEnv("reach", MetaworldConfig(image_size=700))
    image = env.reset(seed=0)[0]["images"]["corner2"]
    env.close()
    assert image.shape == (700, 700, 3)
    assert image[650:, 650:].std() > 1  # all of it was drawn


def test_without_cameras_no_driver_is_needed(quick: MetaworldEnv) -> None:
    assert quick.renderer == "none"
    assert quick.reset(seed=0)[0]["images"] == {}
