"""Evaluation as a call: by name, object or factory, kept and gone on with, compared."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from vla.core.contract import Contract
from vla.core.errors import ConfigError, UnknownNameError
from vla.core.types import ActionChunk, Observation
from vla.envs.registry import env_spec
from vla.evaluation.conditions import EXECUTIONS
from vla.evaluation.evaluate import compare, evaluate
from vla.evaluation.folder import read_result
from vla.evaluation.plan import Progress
from vla.evaluation.settings import RunConfig

_HERE = RunConfig(workers=1, batch=2)
_SHORT: dict[str, Any] = {"settings": {"image_size": 32, "max_steps": 12}, "episodes": 3}


class Still:
    """Stays where it is."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract

    @property
    def contract(self) -> Contract:
        return self._contract

    def reset(self, slot: int) -> None:
        pass

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        return [o and ActionChunk(actions=o.state[None, :], time_ns=o.time_ns) for o in observations]


def test_a_name_an_object_and_a_factory_are_all_policies() -> None:
    expert = evaluate("expert", episodes=2, settings={"image_size": 32}, run=_HERE)
    assert (expert.success.successes, expert.success.episodes) == (2, 2)
    contract = env_spec("tabletop/place").make(_SHORT["settings"]).contract
    by_object, by_class = evaluate(Still(contract), **_SHORT), evaluate(Still, **_SHORT, run=_HERE)
    assert by_object.policy.name == by_class.policy.name == "Still"
    digests = [[e.actions_digest for e in result.rows[0].episodes] for result in (by_object, by_class)]
    assert digests[0] == digests[1]
    with pytest.raises(ConfigError, match="an object acts in this process"):
        evaluate(Still(contract), **_SHORT, run=RunConfig(workers=2))


def test_every_combination_is_run_and_kept_and_nothing_twice(tmp_path: Path) -> None:
    seen: list[Progress] = []
    notes: list[str] = []
    what: dict[str, Any] = {"env": ["tabletop/place", "tabletop/li*"], "split": ("seen", "distractors")}
    what |= {"languages": ("right", "blank"), "robustness": ("action_noise",), "out": tmp_path, "run": _HERE}
    first = evaluate("random", **_SHORT, **what, on_progress=seen.append)
    assert len(first.rows) == 2 * 2 * (2 + 5)
    assert seen[-1].done == seen[-1].total == 3 * len(first.rows)
    assert read_result(tmp_path).to_json() == first.to_json()
    again = evaluate("random", **_SHORT, **what, note=notes.append)
    assert [row.condition for row in again.rows] == [row.condition for row in first.rows]
    assert [row.episodes for row in again.rows] == [row.episodes for row in first.rows]
    assert notes == [f"{tmp_path}: {seen[-1].total} episodes are there already"]
    assert [gap.condition.language for gap in first.language] == ["right", "blank"] * 4
    assert len(first.robustness) == 4


def test_two_policies_are_compared_on_the_same_scenes(tmp_path: Path) -> None:
    settings = {"image_size": 32, "max_steps": 40}
    result = compare("expert", "random", settings=settings, episodes=30, sequential=True, out=tmp_path, run=_HERE)
    assert result.sequential is not None
    assert result.sequential.better == "a"
    assert result.sequential.only_a == result.sequential.scenes < 12
    assert set(result.rows[0].paired.only_a) >= set(range(500_000, 500_000 + result.sequential.scenes))
    assert read_result(tmp_path).to_json() == result.to_json()


def test_ways_to_execute_are_tried_of_one_policy_and_of_two() -> None:
    small = _SHORT | {"episodes": 1}
    alone = evaluate("random", **small, execution=True, run=_HERE)
    both = compare("random", "random", **small, execution=True, run=_HERE)
    assert len(alone.rows) == len(both.rows) == 1 + len(EXECUTIONS)
    assert [rate.execution for rate in alone.executions] == [rate.execution for rate in both.b.executions]
    assert {rate.execution for rate in alone.executions} == set(EXECUTIONS)
    assert alone.success.episodes == 1  # the plain one


def test_a_pattern_that_means_nothing_is_refused_before_anything_runs() -> None:
    with pytest.raises(UnknownNameError, match=r"environments table\*top: none is called like that"):
        evaluate("random", env="table*top", episodes=1)
