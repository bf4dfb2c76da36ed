"""The experts that ship with Meta-World: silent, memoryless, within the limits, and good."""

import numpy as np
import pytest

from vla.envs.metaworld.env import MetaworldConfig, MetaworldEnv
from vla.envs.metaworld.expert import MetaworldExpert
from vla.envs.metaworld.table import METAWORLD
from vla.envs.recording import record_episode

QUICK = MetaworldConfig(cameras=())


def _successes(task: str, seeds: range) -> int:
    env = MetaworldEnv(task, QUICK)
    expert, count = MetaworldExpert(env), 0
    for seed in seeds:
        env.reset(seed=seed)
        terminated = truncated = False
        while not (terminated or truncated):
            _, _, terminated, truncated, _ = env.step(expert.action())
        count += terminated
    return count


@pytest.mark.parametrize("task", ["drawer-open", "assembly"])
def test_it_succeeds(task: str) -> None:
    assert _successes(task, range(3)) == 3


@pytest.mark.long
@pytest.mark.parametrize("name", METAWORLD)
def test_it_succeeds_in_every_task(name: str) -> None:
    assert _successes(name.removeprefix("metaworld/"), range(500_000, 500_010)) >= 8


def test_it_has_no_memory_and_keeps_the_limits() -> None:
    env = MetaworldEnv("pick-place", QUICK)
    env.reset(seed=0)
    expert = MetaworldExpert(env)
    for _ in range(40):
        action = expert.action()
        assert env.action_space.contains(action)
        np.testing.assert_array_equal(MetaworldExpert(env).action(), action)
        env.step(action)


def test_it_closes_the_gripper_to_grasp() -> None:
    """Our sign: larger opens."""
    env = MetaworldEnv("pick-place", QUICK)
    env.reset(seed=0)
    expert = MetaworldExpert(env)
    first, terminated = expert.action(), False
    while not terminated:
        last = expert.action()
        _, _, terminated, _, _ = env.step(last)
    assert first[3] >= 0 > last[3]


def test_episodes_are_recorded() -> None:
    env = MetaworldEnv("button-press", MetaworldConfig(image_size=32))
    episode = record_episode(env, MetaworldExpert(env), task="metaworld/button-press", seed=1)
    env.close()
    assert episode.success
    assert episode.images["corner2"].shape == (len(episode), 32, 32, 3)
    assert (episode.state.shape[1], episode.action.shape[1], episode.signals) == (4, 4, {})
    assert (np.diff(episode.time_ns) == 12_500_000).all()
    assert episode.sim_state is not None
    assert episode.instruction == "push the button in"
