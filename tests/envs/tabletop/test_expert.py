"""The scripted expert solves the task, and recovers from pushes."""

import numpy as np
import pytest

from vla.envs.disturbance import Disturbance
from vla.envs.recording import record_episode
from vla.envs.tabletop.env import TabletopEnv
from vla.envs.tabletop.expert import TabletopExpert
from vla.envs.tabletop.tasks.place import PLACE, PlaceConfig


def _failures(env: TabletopEnv, seeds: range) -> list[int]:
    failed = []
    for seed in seeds:
        env.reset(seed=seed)
        expert, terminated, truncated = TabletopExpert(env), False, False
        while not (terminated or truncated):
            _, _, terminated, truncated, _ = env.step(expert.action())
        if not terminated:
            failed.append(seed)
    return failed


def test_it_succeeds(env: TabletopEnv) -> None:
    assert _failures(env, range(20)) == []


@pytest.mark.long
def test_it_succeeds_on_200_seeds(env: TabletopEnv) -> None:
    assert _failures(env, range(1000, 1200)) == []


def test_it_succeeds_among_more_things() -> None:
    env = TabletopEnv(PLACE, PlaceConfig(blocks=4, plates=3))
    assert len(_failures(env, range(8))) <= 1
    env.close()


def test_it_has_no_memory(env: TabletopEnv) -> None:
    env.reset(seed=0)
    expert = TabletopExpert(env)
    for _ in range(15):
        action = expert.action()
        np.testing.assert_array_equal(TabletopExpert(env).action(), action)
        np.testing.assert_array_equal(expert.action(), action)
        env.step(action)


def test_episodes_are_complete_and_their_labels_are_what_was_executed(env: TabletopEnv) -> None:
    episode = record_episode(env, TabletopExpert(env), task="place", seed=0)
    assert episode.success
    assert episode.done.tolist() == [False] * (len(episode) - 1) + [True]
    assert episode.valid.all()
    np.testing.assert_array_equal(episode.action, episode.action_executed)
    assert (np.diff(episode.time_ns) == 100_000_000).all()
    assert {len(value) for value in (episode.reward, *episode.signals.values(), *episode.images.values())} == {
        len(episode)
    }
    again = record_episode(env, TabletopExpert(env), task="place", seed=0)
    for name, images in episode.images.items():
        np.testing.assert_array_equal(again.images[name], images)


def test_disturbed_labels_stay_the_experts_and_most_episodes_succeed(env: TabletopEnv) -> None:
    push = Disturbance(episode_share=1.0)
    episodes = [record_episode(env, TabletopExpert(env), task="place", seed=s, disturbance=push) for s in range(10)]
    assert sum(bool(episode.success) for episode in episodes) >= 8
    for episode in episodes:
        difference = np.abs(episode.action - episode.action_executed)
        assert 0.3 < (difference[:, :7].max(axis=1) > 0).mean() < 1.0
        assert difference[:, 7].max() == 0  # the gripper is never pushed
        assert episode.valid.all()


def test_another_drivers_steps_are_not_to_be_learned_from(env: TabletopEnv) -> None:
    episode = record_episode(
        env, TabletopExpert(env), task="place", seed=0, driver=lambda observation: observation.state, driver_steps=5
    )
    assert episode.valid.tolist() == [False] * 5 + [True] * (len(episode) - 5)
    np.testing.assert_array_equal(episode.action_executed[:5], episode.state[:5])
    assert episode.success
