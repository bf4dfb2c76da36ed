"""A policy that drives late: what runs is what an evaluation runs, and what is learned is the expert's."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import TINY
from vla.collection.experts import collect
from vla.collection.settings import CollectConfig
from vla.core.chunks import ChunkBuffer, Execution
from vla.core.config import from_dict
from vla.core.errors import ConfigError
from vla.core.fit import check_observation
from vla.core.types import Episode
from vla.datasets.dataset import Dataset
from vla.envs.registry import env_spec, make_expert
from vla.envs.spec import to_observation
from vla.evaluation.run import run_trials
from vla.evaluation.settings import RunConfig
from vla.evaluation.trials import Condition, trials_of
from vla.policies.learned import LearnedPolicy
from vla.policies.table import find_policy, maker
from vla.training.engines import train
from vla.training.recipe import TrainConfig

_SETTINGS = {"image_size": 32, "max_steps": 30}
_SEEDS = range(40, 42)


@pytest.fixture(scope="module")
def checkpoint(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It draws its chunks, and was trained to hear of four steps that run meanwhile."""
    model = TINY["model"] | {"horizon": 12, "execute": 3, "committed": 4, "head": {"kind": "flow", "steps": 2}}
    recipe = {**TINY, "model": model, "data": {"path": str(dataset), "validation": 0.2}}
    return train(from_dict(TrainConfig, recipe, where="a test"), tmp_path_factory.mktemp("late") / "run")


def _collected(checkpoint: Path, root: Path, **changes: Any) -> list[Episode]:
    values: dict[str, Any] = {"policy": str(checkpoint), "label": "expert", "settings": _SETTINGS, "workers": 1}
    config = CollectConfig(**(values | {"episodes": len(_SEEDS), "seed": _SEEDS[0]} | changes))
    collect(config, root, driver=maker(find_policy(config.policy), batch=1))
    dataset = Dataset.open(root)
    return [dataset.read_episode(i) for i in range(len(dataset.episodes))]


def _evaluated(checkpoint: Path, **run: Any) -> list[np.ndarray]:
    """What runs in an evaluation of the same scenes."""
    condition = Condition(env="tabletop/place", settings=_SETTINGS)
    makers = {"": maker(find_policy(str(checkpoint)), batch=1)}
    outcome = run_trials(trials_of([condition], _SEEDS), makers, RunConfig(workers=1, batch=1, **run))
    return [result.actions for result in outcome.of(condition)]


def _at_once(checkpoint: Path, seed: int) -> np.ndarray:
    """What ran before any answer could be late: a chunk buffer, and a policy that it waits for."""
    env = env_spec("tabletop/place").build(_SETTINGS)
    policy = LearnedPolicy(checkpoint, robot=env.contract)
    buffer, ended, actions = ChunkBuffer(Execution(execute=3)), False, []
    policy.seed(0, seed)
    raw, info = env.reset(seed=seed)
    while not ended:
        if buffer.wants_chunk:
            seen = check_observation(to_observation(raw, info), env.contract, who="the environment")
            (chunk,) = policy.act([seen])
            assert chunk is not None
            buffer.add(chunk)
        actions.append(buffer.pop())
        raw, _, terminated, truncated, info = env.step(actions[-1])
        ended = terminated or truncated
    env.close()
    return np.array(actions)


def _same(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_policy_that_answers_at_once_drives_as_it_did(checkpoint: Path, tmp_path: Path) -> None:
    episodes = _collected(checkpoint, tmp_path)
    executed = [episode.action_executed for episode in episodes]
    assert _same(executed, [_at_once(checkpoint, seed) for seed in _SEEDS])
    assert [dict(episode.provenance) for episode in episodes] == [{}, {}]
    assert Dataset.open(tmp_path).provenance(0)["driver"].keys() == {"policy", "digest"}


@pytest.mark.parametrize("way", ["told", "untold", "measured"])
def test_what_runs_is_what_an_evaluation_runs(checkpoint: Path, tmp_path: Path, way: str) -> None:
    """And each step's label is what the expert would have done there."""
    times = tmp_path / "times.json"
    times.write_text(json.dumps([60.0] * 3 + [180.0, 420.0]))
    late = {"latencies": times} if way == "measured" else {"committed": way == "told"}
    steps = {} if way == "measured" else {"latency_steps": 4}
    mine = {"latency_steps": (4,)} if steps else {}
    episodes = _collected(checkpoint, tmp_path / "late", **late, **mine)
    executed = [episode.action_executed for episode in episodes]
    assert _same(executed, _evaluated(checkpoint, **late, **steps))
    assert not _same(executed, _evaluated(checkpoint))
    if way != "measured":
        assert not _same(executed, _evaluated(checkpoint, **steps, committed=way != "told"))
    _assert_labelled(episodes[0])


def _assert_labelled(episode: Episode) -> None:
    """In each state that what ran has led to, the label is the expert's, and is learned from."""
    env = env_spec("tabletop/place").build(_SETTINGS)
    raw, _ = env.reset(seed=episode.seed)
    expert = make_expert("tabletop/place", env)
    assert episode.valid.all()
    for step, executed in enumerate(episode.action_executed):
        np.testing.assert_array_equal(raw["state"], episode.state[step])
        np.testing.assert_array_equal(expert.action(), episode.action[step])
        raw, *_ = env.step(executed)
    env.close()


def test_each_episode_draws_how_late_it_is_and_says_so(checkpoint: Path, tmp_path: Path) -> None:
    """By its seed, whoever collects it; and what is drawn is what it runs under."""
    late = {"latency_steps": (0, 4), "settings": {"image_size": 32, "max_steps": 9}, "execute": 2}
    episodes = _collected(checkpoint, tmp_path / "one", episodes=6, **late)
    drawn = [episode.provenance["latency_steps"] for episode in episodes]
    assert set(drawn) == {0, 4}
    for steps in (0, 4):
        always = _collected(checkpoint, tmp_path / str(steps), episodes=6, **late | {"latency_steps": (steps,)})
        for one, other, found in zip(episodes, always, drawn, strict=True):
            assert np.array_equal(one.action_executed, other.action_executed) == (steps == found)
    (last,) = _collected(checkpoint, tmp_path / "last", episodes=1, **late, seed=45)
    assert last.provenance == episodes[-1].provenance
    driver = Dataset.open(tmp_path / "one").provenance(0)["driver"]
    assert (driver["latency_steps"], driver["committed"], driver["execute"]) == ([0, 4], True, 2)


def test_a_late_policy_is_taken_over_from(checkpoint: Path, tmp_path: Path) -> None:
    """As one that is not late: what it did before is what an evaluation runs, and is not learned from."""
    how = {"label": "takeover", "takeover": (0.5, 0.5), "latency_steps": (4,)}
    for episode, theirs in zip(
        _collected(checkpoint, tmp_path, **how), _evaluated(checkpoint, latency_steps=4), strict=True
    ):
        assert episode.valid.tolist() == [False] * 15 + [True] * (len(episode) - 15)
        np.testing.assert_array_equal(episode.action_executed[:15], theirs[:15])
        np.testing.assert_array_equal(episode.action[15:], episode.action_executed[15:])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"latency_steps": (0, -1)}, r"latency_steps=-1: expected at least 0; give"),
        ({"latency_steps": ()}, r"latency_steps: expected at least one number of steps, got none; give"),
        ({"latency_steps": (0, 10)}, r"latency_steps=10 and execute=3 are more than the 12 steps.*execute 2"),
        ({"latency_steps": (0, 5)}, r"latency_steps=5: .* at most 4 steps .*model.committed=5"),
        ({"latency_steps": (0, 2), "latencies": "[40]"}, r"latency_steps=2 and latencies are both given"),
        ({"latencies": "[]"}, r'latencies .*times.json: expected JSON: a list.*got no time at all; measure some'),
        ({"latencies": '["40"]'}, r"latencies .*times.json: .*got '40' as number 0; write"),
        ({"latencies": "[40, -1]"}, r"latencies: expected times in ms above 0, got -1"),
        ({"latencies": "[40"}, r"latencies .*times.json: expected JSON.*got Expecting"),
        ({"latencies": "[90000]"}, r"the shortest, 90000 ms, is 900 steps at 10 Hz, and a chunk of the policy has 12"),
        ({"execute": 13}, r"execute=13 is more than the 12 steps"),
        ({"execute": 0}, r"execute=0 must be at least 1"),
        ({"latency_steps": (4,), "policy": "", "label": None}, r"of a policy that drives.*give --policy and --label"),
    ],
)  # fmt: skip
def test_what_cannot_be_late_is_refused(checkpoint: Path, tmp_path: Path, how: dict[str, Any], message: str) -> None:
    if text := how.get("latencies"):
        times = tmp_path / "times.json"
        times.write_text(text)
        how = how | {"latencies": times}
    with pytest.raises(ConfigError, match=message):
        _collected(checkpoint, tmp_path / "late", **how)


def test_a_policy_without_chunks_cannot_be_late(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chunks of 1 steps, which are over before they are there; give at most 0"):
        _collected(Path("expert"), tmp_path, latency_steps=(2,))
