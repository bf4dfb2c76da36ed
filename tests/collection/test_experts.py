"""Collecting: the seeds say what is recorded, not the processes; failures are dropped and counted."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla.collection import experts as collection
from vla.collection.experts import collect
from vla.collection.settings import CollectConfig
from vla.core.errors import ConfigError, ContractError, DatasetError
from vla.core.types import Episode
from vla.datasets.dataset import Dataset
from vla.datasets.store.manifest import latest_number
from vla.envs.recording import record_episode
from vla.envs.registry import env_spec, make_expert
from vla.policies.random import RandomPolicy
from vla.policies.table import find_policy, maker


def _episodes(root: Path, manifest: int | None = None) -> list[Episode]:
    dataset = Dataset.open(root, manifest)
    return [dataset.read_episode(i) for i in range(len(dataset.episodes))]


def _assert_equal(ours: Episode, theirs: Episode) -> None:
    for field in fields(Episode):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name in ("images", "signals"):
            assert a.keys() == b.keys()
            assert all(np.array_equal(a[name], b[name]) for name in a)
        elif isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        else:
            assert a == b, field.name


def test_two_processes_record_what_one_does(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "_SEGMENT_EPISODES", 6)
    heard: list[bool] = []
    config = CollectConfig(episodes=12, workers=2, settings={"image_size": 32})
    collected = collect(config, tmp_path, lambda success, steps: heard.append(success))
    alone = _episodes(dataset)
    together = sorted(_episodes(tmp_path), key=lambda episode: episode.seed)
    assert len(Dataset.open(tmp_path).manifest.segments) == 2
    assert (collected.manifest, collected.episodes + collected.failed) == (1, 12)
    assert (heard.count(True), heard.count(False)) == (collected.episodes, collected.failed)
    assert len(alone) == len(together) == collected.episodes
    assert sum(len(episode) for episode in together) == collected.steps
    for ours, theirs in zip(alone, together, strict=True):
        _assert_equal(ours, theirs)


def test_failures_are_dropped_and_a_second_collection_is_a_new_version(tmp_path: Path) -> None:
    # A gentle push now and then, and little time: some episodes run out of it.
    first = collect(CollectConfig(episodes=6, workers=1, settings={"image_size": 16, "max_steps": 33}), tmp_path)
    assert first.failed > 0
    assert first.episodes + first.failed == 6
    assert all(episode.success for episode in _episodes(tmp_path))
    second = collect(CollectConfig(episodes=2, seed=100, workers=1, settings={"image_size": 16}), tmp_path)
    assert (first.manifest, second.manifest) == (1, 2)
    seeds = [episode.seed for episode in _episodes(tmp_path)]
    assert seeds[: first.episodes] == [episode.seed for episode in _episodes(tmp_path, manifest=1)]
    assert min(seeds[first.episodes :]) >= 100
    with pytest.raises(ContractError, match="another folder"):
        collect(CollectConfig(episodes=2, workers=1, settings={"image_size": 32}), tmp_path)
    assert latest_number(tmp_path) == 2


def test_an_episode_that_leaves_the_limits_is_a_failure_and_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a simulation tears the fingers apart."""

    def torn(env: Any, expert: Any, *, seed: int, **rest: Any) -> Episode:
        episode = record_episode(env, expert, seed=seed, **rest)
        if seed == 1:
            episode.state[3, -1] = 0.2
        return episode

    monkeypatch.setattr(collection, "record_episode", torn)
    collected = collect(
        CollectConfig(env="tabletop/reach", episodes=3, workers=1, settings={"image_size": 16}), tmp_path
    )
    assert (collected.episodes, collected.failed) == (2, 1)
    assert [episode.seed for episode in _episodes(tmp_path)] == [0, 2]


def test_an_expert_that_always_fails_publishes_nothing(tmp_path: Path) -> None:
    config = CollectConfig(episodes=2, workers=1, settings={"image_size": 16, "max_steps": 2})
    with pytest.raises(DatasetError, match="failed in all 2 episodes"):
        collect(config, tmp_path)
    assert latest_number(tmp_path) is None
    assert not list((tmp_path / "segments").glob("*"))


def test_shares_give_every_worker_something_and_no_segment_too_much() -> None:
    def sizes(episodes: int, workers: int, envs: int = 1) -> list[int]:
        config = CollectConfig(episodes=episodes, workers=workers)
        return [len(share.seeds) for share in collection._shares([f"e{i}" for i in range(envs)], config)]

    assert sizes(50, 2) == [25, 25]
    assert sizes(3, 8) == [1, 1, 1]
    assert sizes(2000, 2) == [100] * 20
    assert sizes(50, 2, envs=50) == [50] * 50
    assert sum(sizes(101, 3, envs=2)) == 202


def test_several_environments_of_one_robot_are_one_dataset(tmp_path: Path) -> None:
    config = CollectConfig(env=("tabletop/li*", "tabletop/reach"), episodes=2, workers=2, settings={"image_size": 16})
    collected = collect(config, tmp_path)
    assert collected.envs == {"tabletop/lift": 2, "tabletop/reach": 2}
    opened = Dataset.open(tmp_path)
    assert sorted((e.task, e.seed) for e in _episodes(tmp_path)) == [
        *(("tabletop/lift", seed) for seed in (0, 1)),
        *(("tabletop/reach", seed) for seed in (0, 1)),
    ]
    assert {opened.provenance(i)["env"] for i in range(len(opened.manifest.segments))} == set(collected.envs)
    assert opened.manifest.number == 1


def test_environments_of_another_robot_are_refused_by_name(tmp_path: Path) -> None:
    config = CollectConfig(env=("tabletop/lift", "fetch/reach", "fetch/push"), episodes=1, settings={"image_size": 16})
    with pytest.raises(ContractError, match=r"not as tabletop/lift: fetch/reach, fetch/push \(robot: .*another folder"):
        collect(config, tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()


def _lazy(env: str, envs: Sequence[Any]) -> RandomPolicy:
    return RandomPolicy(envs[0].contract)


def test_a_policy_drives_and_the_expert_labels_what_it_reaches(tmp_path: Path) -> None:
    config = CollectConfig(
        episodes=2, workers=1, policy="random", label="expert", settings={"image_size": 16, "max_steps": 12}
    )
    collected = collect(config, tmp_path, driver=_lazy)
    assert (collected.episodes, collected.failed, collected.steps) == (2, 2, 24)
    opened = Dataset.open(tmp_path)
    assert opened.provenance(0)["driver"]["policy"] == "random"
    assert opened.provenance(0)["label"] == "expert"
    for episode in _episodes(tmp_path):
        assert episode.valid.all()
        assert not episode.success
        assert not np.array_equal(episode.action, episode.action_executed)
        env = env_spec("tabletop/place").make(config.settings)
        env.reset(seed=episode.seed)
        expert = make_expert("tabletop/place", env)
        for step, executed in enumerate(episode.action_executed):
            np.testing.assert_array_equal(expert.action(), episode.action[step])
            env.step(executed)
        env.close()


def test_the_expert_takes_over_and_only_it_is_learned_from(tmp_path: Path) -> None:
    """Two families at once, on two processes: each is driven for its own share of its own longest episode."""
    config = CollectConfig(
        env=("tabletop/lift", "tabletop/sort"), episodes=3, workers=2, policy="random", label="takeover",
        takeover=(0.1, 0.3), settings={"image_size": 16},
    )  # fmt: skip
    collected = collect(config, tmp_path, driver=_lazy)
    # What happens at random may tear the robot apart, as it does in one of these: nothing is learned from that.
    assert (collected.episodes, collected.failed, collected.finished) == (5, 2, 0)
    longest = {"tabletop/lift": 60, "tabletop/sort": 160}
    driven = {}
    for episode in _episodes(tmp_path):
        steps = int(np.argmax(episode.valid))
        assert episode.valid.tolist() == [False] * steps + [True] * (len(episode) - steps)
        assert 0.1 <= steps / longest[episode.task] <= 0.31
        np.testing.assert_array_equal(episode.action[steps:], episode.action_executed[steps:])
        driven[episode.task, episode.seed] = steps
    assert len(set(driven.values())) > 3
    assert Dataset.open(tmp_path).provenance(0)["label"] == "takeover"


def test_what_the_policy_ends_itself_teaches_nothing(tmp_path: Path) -> None:
    config = CollectConfig(
        env="tabletop/reach", episodes=2, workers=1, policy="expert", label="takeover", takeover=(0.9, 0.95),
        settings={"image_size": 16},
    )  # fmt: skip
    with pytest.raises(DatasetError, match="expert ended all 2 episodes before the expert took over; lower --takeover"):
        collect(config, tmp_path, driver=maker(find_policy("expert"), batch=1))


@pytest.mark.parametrize("takeover", [(0.5, 0.2), (-0.1, 0.5), (0.1, 1.0)])
def test_a_takeover_is_within_an_episode(takeover: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match=r"takeover=\[.*from 0 to below 1"):
        CollectConfig(policy="random", label="takeover", takeover=takeover)


def test_a_driver_wants_a_label_and_a_label_a_driver() -> None:
    for given in ({"policy": "random"}, {"label": "expert"}):
        with pytest.raises(ConfigError, match="give both, or neither"):
            CollectConfig(**given)  # type: ignore[arg-type]
