"""The evaluator: repeatable, ordered, and fair to the policy when something else fails."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from vla.core.contract import Contract
from vla.core.errors import ConfigError
from vla.core.types import ActionChunk, Observation
from vla.envs.evaluation import EpisodeResult, evaluate
from vla.envs.registry import ENVS, make_expert
from vla.envs.results import summarise
from vla.envs.scripted import ExpertPolicy
from vla.envs.settings import EvaluationConfig
from vla.envs.spec import RobotEnv

EXPERT = partial(ExpertPolicy, "tabletop/place")


def _evaluate(make_policy: Callable[[Sequence[Any]], Any] = EXPERT, **changes: Any) -> list[EpisodeResult]:
    values: dict[str, Any] = {"episodes": 4, "seed": 0, "workers": 1, "batch": 2}
    return evaluate(EvaluationConfig(**(values | changes)), make_policy)


def _same(a: Sequence[EpisodeResult], b: Sequence[EpisodeResult]) -> bool:
    actions = all(np.array_equal(x.actions, y.actions) for x, y in zip(a, b, strict=True))
    return actions and [{**x.to_json(), "inference_ms": 0} for x in a] == [
        {**y.to_json(), "inference_ms": 0} for y in b
    ]


class _Answering:
    """Answers with what ``answer`` says."""

    def __init__(self, answer: Callable[[int, Observation], np.ndarray], envs: Sequence[RobotEnv]) -> None:
        self._answer, self._contract = answer, envs[0].contract
        self.calls = 0

    @property
    def contract(self) -> Contract:
        return self._contract

    def reset(self, slot: int) -> None:
        pass

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        self.calls += 1
        return [
            None
            if o is None
            else ActionChunk(actions=self._answer(self.calls, o).astype(np.float32), time_ns=o.time_ns)
            for o in observations
        ]


class _Breaking:
    """A real environment that raises at one step of the episode of one seed."""

    def __init__(self, env: RobotEnv, seed: int, step: int) -> None:
        self.inner, self._when, self._now = env, (seed, step), (0, 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def reset(self, *, seed: int, options: dict[str, Any]) -> Any:
        self._now = (seed, 0)
        if self._now == self._when:
            raise RuntimeError("the scene is on fire")
        return self.inner.reset(seed=seed, options=options)

    def step(self, action: np.ndarray) -> Any:
        self._now = (self._now[0], self._now[1] + 1)
        if self._now == self._when:
            raise RuntimeError("the simulator is on fire")
        return self.inner.step(action)


def test_the_expert_succeeds_in_order_and_repeatably() -> None:
    first = _evaluate()
    assert [result.seed for result in first] == [0, 1, 2, 3]
    assert all(result.success and result.grasped and result.crash is None for result in first)
    assert all(result.distance_m < 0.05 and len(result.actions) == result.steps for result in first)
    assert _same(first, _evaluate())
    assert _same(first, _evaluate(batch=4))


def test_processes_change_nothing() -> None:
    seen: list[int] = []
    config = EvaluationConfig(episodes=4, seed=0, workers=2, batch=2)
    results = evaluate(config, EXPERT, lambda result: seen.append(result.seed))
    assert _same(results, _evaluate())
    assert sorted(seen) == [0, 1, 2, 3]


@pytest.mark.parametrize(("step", "where"), [(3, "step 3: RuntimeError"), (0, "reset: RuntimeError")])
def test_a_crash_is_counted_apart_and_the_rest_is_kept(monkeypatch: pytest.MonkeyPatch, step: int, where: str) -> None:
    spec = ENVS["tabletop/place"]

    def make(settings: Mapping[str, Any]) -> Any:
        return _Breaking(spec.make(settings), seed=1, step=step)

    monkeypatch.setitem(
        ENVS, "test/breaking", replace(spec, make=make, expert=lambda env: make_expert("tabletop/place", env.inner))
    )
    results = _evaluate(partial(ExpertPolicy, "test/breaking"), env="test/breaking")
    assert [result.success for result in results] == [True, False, True, True]
    assert [result.crash is not None for result in results] == [False, True, False, False]
    assert (results[1].crash or "").startswith(where)
    summary = summarise(results)
    assert (summary["crashes"], summary["success"]["episodes"], summary["success"]["rate"]) == (1, 3, 1.0)


def test_actions_that_are_not_finite_are_the_policys_failure() -> None:
    def answer(call: int, observation: Observation) -> np.ndarray:
        return np.full((4, 8), np.nan) if call == 3 else observation.state[None].repeat(4, axis=0)

    (result,) = _evaluate(partial(_Answering, answer), episodes=1, execute=4)
    assert (result.success, result.crash, result.steps) == (False, None, 8)
    assert result.failure is not None
    assert "not finite" in result.failure
    assert summarise([result])["success"]["episodes"] == 1


def test_a_chunk_is_executed_for_as_long_as_asked() -> None:
    chunks: list[np.ndarray] = []

    def answer(call: int, observation: Observation) -> np.ndarray:
        chunks.append(observation.state[None].repeat(6, axis=0) + np.arange(6)[:, None] * 1e-3)
        return chunks[-1]

    (result,) = _evaluate(partial(_Answering, answer), episodes=1, execute=3, settings={"max_steps": 9})
    assert (result.steps, len(chunks)) == (9, 3)
    expected = np.concatenate([chunk[:3] for chunk in chunks]).astype(np.float32)
    np.testing.assert_allclose(result.actions, expected, atol=1e-6)
    assert not result.success


def test_wrong_language_is_told_and_judged() -> None:
    right, wrong = (_evaluate(language=language, episodes=2) for language in ("right", "wrong"))
    assert [r.instruction for r in right] != [r.instruction for r in wrong]
    assert all(r.success and not r.success_unsaid for r in wrong)  # the expert follows the words


@pytest.mark.parametrize("name", ["episodes", "execute", "workers", "batch"])
def test_impossible_settings(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=0"):
        EvaluationConfig(**{name: 0})
