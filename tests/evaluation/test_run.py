"""The evaluator: repeatable, ordered, and fair to the policy when something else fails."""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla.core.chunks import Execution
from vla.core.contract import Contract
from vla.core.errors import ConfigError, VlaError
from vla.core.fit import limits
from vla.core.machine.spawned import WorkerDiedError
from vla.core.policy_spec import PolicySpec
from vla.core.types import ActionChunk, Observation
from vla.envs.registry import ENVS, make_expert
from vla.envs.spec import RobotEnv
from vla.evaluation.baselines import ExpertPolicy, SameBatch
from vla.evaluation.evaluate import evaluate
from vla.evaluation.plan import Contender, Plan, execute
from vla.evaluation.rows import summarise
from vla.evaluation.run import run_trials
from vla.evaluation.settings import RunConfig
from vla.evaluation.trials import TIMES, Condition, EpisodeResult, trials_of


def _evaluate(make_policy: Callable[..., Any] = ExpertPolicy, **changes: Any) -> list[EpisodeResult]:
    """Episodes 0 to 3 of one condition; ``changes`` are of the condition, of how it is run, or of the plan."""
    values: dict[str, Any] = {"env": "tabletop/place", "episodes": 4, "seed": 0, "workers": 1, "batch": 2} | changes
    kinds = (Condition, RunConfig)
    condition, run = ({f.name: values.pop(f.name) for f in fields(kind) if f.name in values} for kind in kinds)
    where, note = Condition(**condition), values.pop("note", lambda text: None)
    contender = Contender(name="test", make=make_policy)
    plan = Plan(contenders={"": contender}, conditions=[where], run=RunConfig(**run), **values)
    return execute(plan, note=note).of(where)


def _same(a: Sequence[EpisodeResult], b: Sequence[EpisodeResult]) -> bool:
    actions = all(np.array_equal(x.actions, y.actions) for x, y in zip(a, b, strict=True))
    return actions and [_timeless(x) for x in a] == [_timeless(y) for y in b]


def _timeless(result: EpisodeResult) -> dict[str, Any]:
    return {key: value for key, value in result.to_json().items() if key not in TIMES}


class _Answering:
    """Answers with what ``answer`` says."""

    def __init__(self, answer: Callable[[int, Observation], np.ndarray], env: str, envs: Sequence[RobotEnv]) -> None:
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


class _Believing(_Answering):
    """Stands still, and is as far from the truth of one signal as it was called often."""

    def __init__(self, env: str, envs: Sequence[Any]) -> None:
        super().__init__(lambda _, observation: observation.state[None], env, envs)
        self._envs = envs

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        def believe(slot: int, chunk: ActionChunk) -> ActionChunk:
            said = self._envs[slot].signals()["grounding"] + np.float32(self.calls)
            return replace(chunk, signals={"grounding": said, "touch": np.zeros(1, np.float32)})

        return [chunk and believe(slot, chunk) for slot, chunk in enumerate(super().act(observations))]


class _Told(_Answering):
    """Wanders about the state in chunks of six steps, and keeps what it was told and what it answered."""

    def __init__(self, committed: int, env: str, envs: Sequence[RobotEnv]) -> None:
        rng = np.random.default_rng(0)
        super().__init__(lambda _, o: o.state + 0.01 * rng.standard_normal((6, len(o.state))), env, envs)
        spec = {"horizon": 6, "execute": 3, "committed": committed, "relative_to": (), "robots": (), "model": {}}
        policy = PolicySpec(kind="told", preprocessor="", tokenizer="", **spec)
        self._contract = replace(self._contract, policy=policy)
        self.told: list[np.ndarray | None] = []
        self.chunks: list[np.ndarray] = []

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        (observation,), (chunk,) = observations, super().act(observations)
        assert observation is not None
        assert chunk is not None
        self.told.append(observation.committed)
        self.chunks.append(np.clip(chunk.actions, *limits(self._contract.action)))
        return [chunk]


class _Breaking:
    """A real environment that raises at one step of the episode of one seed."""

    def __init__(self, env: RobotEnv, seed: int, step: int) -> None:
        self.inner, self._when, self._now = env, (seed, step), (0, 0)

    contract = property(lambda self: self.inner.contract)
    instruction = property(lambda self: self.inner.instruction)
    instruction_alternatives = property(lambda self: self.inner.instruction_alternatives)
    renderer = property(lambda self: self.inner.renderer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def render(self) -> Any:
        return self.inner.render()

    def close(self) -> None:
        self.inner.close()

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


def test_beliefs_are_measured_in_the_first_frame_where_the_environment_knows() -> None:
    results = _evaluate(_Believing, episodes=2, settings={"max_steps": 3})
    for result in results:
        assert sorted(result.metrics) == ["distance_m", "grasped", "grounding_error"]
        assert result.metrics["grounding_error"] == pytest.approx(1.0, abs=1e-5)
    assert summarise(Condition(env="x"), results).metrics["grounding_error"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("committed", [0, 2])
def test_a_chunk_that_takes_two_steps_begins_two_steps_late(committed: int) -> None:
    """Until then the one before it runs, and a policy that was trained for that is told what."""
    made: list[_Told] = []

    def make(env: str, envs: Sequence[RobotEnv]) -> _Told:
        made.append(_Told(committed, env, envs))
        return made[-1]

    (result,) = _evaluate(make, episodes=1, batch=1, latency_steps=2, settings={"max_steps": 12})
    (policy,) = made
    assert len(policy.chunks) == 4
    for k, (chunk, told) in enumerate(zip(policy.chunks, policy.told, strict=True)):
        start = 3 * k
        begins = start + (2 if k else 0)  # for the first everybody waits
        ran = result.actions[begins : start + 5]
        np.testing.assert_array_equal(ran, chunk[begins - start :][: len(ran)])
        if k and committed:
            np.testing.assert_array_equal(told, result.actions[start : start + 2])
        else:
            assert told is None


def test_a_policy_need_not_be_told() -> None:
    made: list[_Told] = []

    def make(env: str, envs: Sequence[RobotEnv]) -> _Told:
        made.append(_Told(2, env, envs))
        return made[-1]

    _evaluate(make, episodes=1, batch=1, latency_steps=2, committed=False, settings={"max_steps": 12})
    assert [told for policy in made for told in policy.told] == [None] * 4


def test_times_that_were_measured_make_chunks_as_late_as_they_are_drawn(tmp_path: Path) -> None:
    """Half a step or two and a half: of what comes, the steps that were consumed are dropped, and no others."""
    times, made = tmp_path / "times.json", list[_Told]()
    times.write_text("[50, 250]")

    def make(env: str, envs: Sequence[RobotEnv]) -> _Told:
        made.append(_Told(4, env, envs))
        return made[-1]

    run = {"latencies": times, "execute": 1, "settings": {"max_steps": 30}}
    (result,), (policy,) = _evaluate(make, episodes=1, batch=1, **run), made
    (again,) = _evaluate(make, episodes=1, batch=1, **run)
    assert _same([result], [again])  # drawn by the scene's seed
    begun = [0, *(int(np.flatnonzero((result.actions == chunk[late]).all(axis=1))[0]) - late
                  for chunk in policy.chunks[1:-1]
                  for late in [_late(result.actions, chunk)])]  # fmt: skip
    gaps = np.diff(begun)
    assert set(gaps[1:]) == {1, 3}
    sizes = [0 if told is None else len(told) for told in policy.told]
    assert set(sizes[3:]) <= {1, 3}
    for told, start in zip(policy.told[1:-1], begun[1:], strict=False):
        if told is not None:
            np.testing.assert_array_equal(told, result.actions[start : start + len(told)])


def _late(actions: np.ndarray, chunk: np.ndarray) -> int:
    """The first row of ``chunk`` that ran."""
    return next(row for row in range(len(chunk)) if (actions == chunk[row]).all(axis=1).any())


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1, -2]", '["a"]', "[NaN]"])
def test_times_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    times = tmp_path / "times.json"
    times.write_text(text)
    with pytest.raises(ConfigError, match="latencies"):
        RunConfig(latencies=times)
    times.write_text("[1]")
    with pytest.raises(ConfigError, match="both given"):
        RunConfig(latencies=times, latency_steps=2)


@pytest.mark.parametrize(
    ("committed", "run", "message"),
    [
        (1, {"latency_steps": 2}, r"latency_steps=2: the checkpoint was trained for at most 1 .* model.committed=2"),
        (0, {"latency_steps": 4}, r"latency_steps=4 and execute=3 are more than the 6 steps .* give --execute 2"),
        (0, {"execute": 7}, r"execute=7 is more than the 6 steps of a chunk; give --execute 6"),
    ],
)
def test_a_latency_that_cannot_be_is_refused(committed: int, run: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _evaluate(partial(_Told, committed), episodes=1, batch=1, **run)


def test_the_expert_succeeds_in_order_and_repeatably() -> None:
    first = _evaluate()
    assert [result.seed for result in first] == [0, 1, 2, 3]
    assert all(result.success and result.metrics["grasped"] == 1 and result.crash is None for result in first)
    assert all(result.metrics["distance_m"] < 0.05 and len(result.actions) == result.steps for result in first)
    assert _same(first, _evaluate())
    assert _same(first, _evaluate(batch=4))


def test_processes_change_nothing() -> None:
    assert _same(_evaluate(workers=2), _evaluate())


@pytest.mark.parametrize(("step", "where"), [(3, "step 3: RuntimeError"), (0, "reset: RuntimeError")])
def test_a_crash_is_counted_apart_and_the_rest_is_kept(monkeypatch: pytest.MonkeyPatch, step: int, where: str) -> None:
    spec = ENVS["tabletop/place"]

    def make(settings: Mapping[str, Any]) -> Any:
        return _Breaking(spec.make(settings), seed=1, step=step)

    monkeypatch.setitem(
        ENVS, "test/breaking", replace(spec, make=make, expert=lambda env: make_expert("tabletop/place", env.inner))
    )
    results = _evaluate(env="test/breaking")
    assert [result.success for result in results] == [True, False, True, True]
    assert [result.crash is not None for result in results] == [False, True, False, False]
    assert (results[1].crash or "").startswith(where)
    row = summarise(Condition(env="test/breaking"), results)
    assert (row.crashes, row.success.episodes, row.success.rate) == (1, 3, 1.0)


def test_actions_that_are_not_finite_are_the_policys_failure() -> None:
    def answer(call: int, observation: Observation) -> np.ndarray:
        return np.full((4, 8), np.nan) if call == 3 else observation.state[None].repeat(4, axis=0)

    (result,) = _evaluate(partial(_Answering, answer), episodes=1, execute=4)
    assert (result.success, result.crash, result.steps) == (False, None, 8)
    assert result.failure is not None
    assert "NaN or infinity" in result.failure
    assert summarise(Condition(env="x"), [result]).success.episodes == 1


@pytest.mark.parametrize("asked", [{"execute": 3}, {"execute": 1, "execution": Execution(execute=3)}])
def test_a_chunk_is_executed_for_as_long_as_asked(asked: dict[str, Any]) -> None:
    """What a condition says of it comes before what the evaluation says."""
    chunks: list[np.ndarray] = []

    def answer(call: int, observation: Observation) -> np.ndarray:
        chunks.append(observation.state[None].repeat(6, axis=0) + np.arange(6)[:, None] * -1e-3)
        return chunks[-1]

    (result,) = _evaluate(partial(_Answering, answer), episodes=1, settings={"max_steps": 9}, **asked)
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
        _evaluate(**{name: 0})


def _deadly(monkeypatch: pytest.MonkeyPatch, mark: Path, *, always: bool) -> Any:
    """An expert in whose hands the episode of seed 1 kills its process; workers must be able to import it."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return partial(importlib.import_module("deadly").deadly_expert, mark, always)


def _same_but(seed: int, a: Sequence[EpisodeResult], b: Sequence[EpisodeResult]) -> bool:
    return _same([r for r in a if r.seed != seed], [r for r in b if r.seed != seed])


def test_a_process_that_dies_costs_its_episodes_one_try(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make = _deadly(monkeypatch, tmp_path / "died", always=False)
    results = _evaluate(make, workers=2)
    assert (tmp_path / "died").exists()
    assert _same(results, _evaluate())


def test_an_episode_that_kills_its_process_twice_is_a_crash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make = _deadly(monkeypatch, tmp_path / "died", always=True)
    results = _evaluate(make, workers=2)
    assert [result.crash is not None for result in results] == [False, True, False, False]
    assert "SIGKILL" in str(results[1].crash)
    assert _same_but(1, results, _evaluate())


def _still(observation: Observation) -> np.ndarray:
    return observation.state[None].repeat(4, axis=0)


def test_actions_outside_the_limits_are_clipped_and_counted() -> None:
    def answer(call: int, observation: Observation) -> np.ndarray:
        actions = _still(observation)
        actions[1, 0], actions[2, 7] = 100.0, -1.0
        return actions

    (result,) = _evaluate(partial(_Answering, answer), episodes=1, execute=4, settings={"max_steps": 8})
    assert (result.crash, result.failure, result.steps, result.clipped) == (None, None, 8, 4)
    contract = ENVS["tabletop/place"].make({}).contract
    low, high = (np.array([getattr(d, end) for d in contract.action], np.float32) for end in ("low", "high"))
    assert (result.actions <= high).all()
    assert (result.actions >= low).all()


def test_a_policy_that_raises_fails_in_the_episode_where_it_does() -> None:
    bad = _evaluate(partial(_Answering, lambda call, o: _still(o)), episodes=3, settings={"max_steps": 4})[
        1
    ].instruction

    def answer(call: int, observation: Observation) -> np.ndarray:
        if observation.instruction == bad:
            raise RuntimeError("what is this word?")
        return _still(observation)

    results = _evaluate(partial(_Answering, answer), episodes=3, batch=3, settings={"max_steps": 4})
    assert [result.failure is not None for result in results] == [False, True, False]
    assert "what is this word?" in str(results[1].failure)
    assert [result.steps for result in results] == [4, 0, 4]


@pytest.mark.parametrize("shape", [(4, 7), (0, 8)])
def test_a_chunk_of_the_wrong_shape_is_the_policys_failure(shape: tuple[int, int]) -> None:
    (result,) = _evaluate(partial(_Answering, lambda call, o: np.zeros(shape)), episodes=1)
    assert f"got float32 {shape}" in str(result.failure)


class _TooFew(_Answering):
    """Answers nobody."""

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        return []


def test_a_policy_that_leaves_out_answers_is_an_error() -> None:
    with pytest.raises(VlaError, match="got 2 observations and returned 0 answers"):
        _evaluate(partial(_TooFew, lambda call, o: _still(o)))


def test_all_environments_ask_together() -> None:
    """So that every inference is of as many observations as can be, also after some episodes have ended."""
    asked: list[int] = []

    class Counting(_Answering):
        def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
            asked.append(sum(o is not None for o in observations))
            return super().act(observations)

    make = partial(Counting, lambda call, o: _still(o))
    _evaluate(make, episodes=6, batch=3, execute=4, settings={"max_steps": 6})
    assert asked == [3, 3, 3, 3]


def test_paraphrases_say_it_in_other_words_and_change_nothing_else() -> None:
    right, said = (_evaluate(language=language) for language in ("right", "paraphrase"))
    assert all(a.instruction != b.instruction and a.goal == b.goal for a, b in zip(right, said, strict=True))
    assert all(np.array_equal(a.actions, b.actions) for a, b in zip(right, said, strict=True))
    assert [r.instruction for r in said] == [r.instruction for r in _evaluate(language="paraphrase", batch=1)]


def test_the_policy_is_told_the_paraphrase() -> None:
    heard: set[str] = set()

    def answer(call: int, observation: Observation) -> np.ndarray:
        heard.add(observation.instruction)
        return _still(observation)

    results = _evaluate(partial(_Answering, answer), language="paraphrase", settings={"max_steps": 3})
    assert heard == {result.instruction for result in results}


def test_a_policy_with_memory_is_reset_for_each_episode_and_sees_its_own_slot() -> None:
    """The memory of a slot holds one episode: times that rise from the beginning, and one goal."""
    begun, memory = [], dict[int, list[Observation]]()

    class Remembering(_Answering):
        def reset(self, slot: int) -> None:
            begun.append(slot)
            memory[slot] = []

        def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
            for slot, seen in enumerate(observations):
                if seen is None:
                    continue
                past = memory[slot]
                assert not past or (past[-1].time_ns < seen.time_ns and past[-1].instruction == seen.instruction)
                past.append(seen)
            return super().act(observations)

    make = partial(Remembering, lambda call, o: _still(o))
    results = _evaluate(make, episodes=7, batch=3, execute=2, settings={"max_steps": 6})
    assert len(begun) == len(results) == 7
    assert not any(result.crash or result.failure for result in results)
    assert {len(past) for past in memory.values()} == {3}


def test_what_an_environment_does_not_know_is_an_error() -> None:
    with pytest.raises(ConfigError, match="another goal"):
        _evaluate(language="wrong", settings={"blocks": 1, "plates": 1})


def test_conditions_that_are_refused_are_told_and_the_others_run() -> None:
    conditions = [
        Condition(env="tabletop/place", language=language, settings={"blocks": 1, "plates": 1})
        for language in ("right", "wrong")
    ]
    outcome = run_trials(trials_of(conditions, range(3)), {"": ExpertPolicy}, RunConfig(workers=1, batch=2))
    assert len(outcome.of(conditions[0])) == 3
    assert list(outcome.refusals) == [conditions[1].key]


def test_a_way_to_execute_that_a_chunk_is_too_short_for_is_left_out_and_told() -> None:
    """Late by three of six steps, three are left: four cannot run, and must not be told as if they had."""
    ways = [None, *(Execution(execute=steps) for steps in (2, 3, 4)), Execution()]
    conditions = [Condition(env="tabletop/place", execution=way, settings={"max_steps": 9}) for way in ways]
    run = RunConfig(workers=1, batch=1, latency_steps=3)
    outcome = run_trials(trials_of(conditions, range(1)), {"": partial(_Told, 0)}, run)
    assert [len(outcome.of(condition)) for condition in conditions] == [1, 1, 1, 0, 1]
    (refused,) = outcome.refusals.values()
    assert "latency_steps=3 and execute=4 are more than the 6 steps of a chunk" in str(refused)


def test_perturbations_reach_the_policy_and_come_from_the_seed() -> None:
    noisy = {"perturbation": {"action_noise": 0.02}, "settings": {"max_steps": 20}}
    plain = _evaluate(settings={"max_steps": 20})
    first = _evaluate(**noisy)
    assert _same(first, _evaluate(**noisy, batch=1))
    assert not any(np.array_equal(a.actions, b.actions) for a, b in zip(first, plain, strict=True))
    with pytest.raises(ConfigError, match="did you mean 'action_noise'"):
        _evaluate(perturbation={"action_nois": 0.1})


def test_what_is_there_is_not_run_again() -> None:
    condition = Condition(env="tabletop/place")
    config = RunConfig(workers=1, batch=2)
    makers = {"": ExpertPolicy}
    outcome = run_trials(trials_of([condition], range(2)), makers, config)
    ran: list[int] = []
    run_trials(
        trials_of([condition], range(4)), makers, config, outcome=outcome, on_ended=lambda t, r: ran.append(t.seed)
    )
    assert sorted(ran) == [2, 3]
    assert _same(outcome.of(condition), _evaluate())


def test_results_survive_being_written() -> None:
    for result in _evaluate(episodes=2):
        again = EpisodeResult.from_record(json.loads(json.dumps(result.to_record(), allow_nan=False)))
        assert np.array_equal(again.actions, result.actions)
        assert _timeless(again) == _timeless(result)


class _Remembering(_Answering):
    """Counts the steps of each slot's episode; a slot that is not reset, or another's, shows in its actions."""

    def __init__(self, env: str, envs: Sequence[RobotEnv]) -> None:
        super().__init__(lambda call, o: o.state, env, envs)
        self._asked: dict[int, int] = {}
        self._told: dict[int, str] = {}

    def reset(self, slot: int) -> None:
        self._asked[slot], self._told[slot] = 0, ""

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        chunks: list[ActionChunk | None] = [None] * len(observations)
        for slot, o in enumerate(observations):
            if o is not None:
                assert self._told[slot] in ("", o.instruction), "another episode's words"
                self._told[slot] = o.instruction
                self._asked[slot] += 1
                action = o.state.copy()
                action[0] += 1e-3 * self._asked[slot]
                chunks[slot] = ActionChunk(actions=action[None], time_ns=o.time_ns)
        return chunks


@pytest.mark.parametrize("wrap", [lambda policy: policy, lambda policy: SameBatch(policy, 3)])
def test_a_policy_with_memory_sees_its_own_episode_alone(wrap: Callable[[Any], Any]) -> None:
    """However many run beside it, and wherever: memory begins with the episode and belongs to its slot."""
    changes: dict[str, Any] = {"episodes": 5, "settings": {"max_steps": 6}}
    alone = _evaluate(_Remembering, batch=1, **changes)
    together = _evaluate(lambda env, envs: wrap(_Remembering(env, envs)), batch=3, **changes)
    assert all(result.failure is None for result in together)
    assert _same(alone, together)


def test_metrics_are_what_the_environment_said_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ENVS["tabletop/place"]

    class Measuring(_Breaking):
        def step(self, action: np.ndarray) -> Any:
            *rest, info = super().step(action)
            return *rest, info | {"metrics": {"steps_s": self._now[1] / 10, "lost": float("nan")}}

    def make(settings: Mapping[str, Any]) -> Any:
        return Measuring(spec.make(settings), seed=-1, step=-1)

    bind: Any = lambda env: make_expert("tabletop/place", env.inner)  # noqa: E731
    monkeypatch.setitem(ENVS, "test/measuring", replace(spec, make=make, expert=bind))
    results = _evaluate(env="test/measuring", episodes=2)
    assert [result.metrics["steps_s"] for result in results] == [result.steps / 10 for result in results]
    row = summarise(Condition(env="test/measuring"), results)
    assert row.metrics == {"steps_s": pytest.approx(np.mean([result.steps for result in results]) / 10)}


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> str:
    """The module of what comes to its end, which workers can import."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return "deadly"


def test_an_environment_that_kills_whoever_builds_it_is_named(deadly: str, tmp_path: Path) -> None:
    with pytest.raises(WorkerDiedError, match=r"^deadly:UNBUILT: .*SIGSEGV.*before the first episode, twice"):
        _evaluate(env=f"{deadly}:UNBUILT", workers=2, settings={"mark": str(tmp_path / "mark")})


def test_a_death_while_building_is_tried_again(deadly: str, tmp_path: Path) -> None:
    settings = {"mark": str(tmp_path / "mark"), "once": True}
    results = _evaluate(env=f"{deadly}:UNBUILT", workers=2, settings=settings)
    assert [result.success for result in results] == [True] * 4


@pytest.mark.parametrize("deaf", [False, True])
def test_a_step_that_never_returns_is_a_crash_of_its_episode_alone(deadly: str, deaf: bool) -> None:
    notes: list[str] = []
    results = _evaluate(env=f"{deadly}:HANGING", workers=2, settings={"deaf": deaf}, patience_s=3.0, note=notes.append)
    assert [result.success for result in results] == [True, False, True, True]
    assert "no sign of life for 3 s and was ended, twice" in str(results[1].crash)
    assert set(notes) == {"a worker process gave no sign of life for 3 s and was ended"}


def test_in_this_process_a_step_that_never_returns_is_interrupted(deadly: str) -> None:
    results = _evaluate(env=f"{deadly}:HANGING", patience_s=4.0)
    assert [result.success for result in results] == [True, False, True, True]
    assert results[1].crash == "step 3: TimeoutError: no sign of life for 4 s"


def test_what_is_kept_is_closed_when_its_tasks_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, alive, most = ENVS["tabletop/place"], 0, 0

    class Counted(_Breaking):
        def close(self) -> None:
            nonlocal alive
            alive -= 1
            self.inner.close()

    def make(settings: Mapping[str, Any]) -> Any:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return Counted(spec.make(settings), seed=-1, step=-1)

    bind: Any = lambda env: make_expert("tabletop/place", env.inner)  # noqa: E731
    names = [f"test/counted{i}" for i in range(4)]
    for name in names:
        monkeypatch.setitem(ENVS, name, replace(spec, make=make, expert=bind))
    conditions = [Condition(env=name, settings={"max_steps": 2}) for name in names]
    run_trials(trials_of(conditions, range(3)), {"": ExpertPolicy}, RunConfig(workers=1, batch=2))
    assert (most, alive) == (2, 0)


class _Closing(_Answering):
    closed = 0

    def close(self) -> None:
        type(self).closed += 1


def test_policies_are_closed_by_whoever_made_them(monkeypatch: pytest.MonkeyPatch) -> None:
    make = partial(_Closing, lambda call, o: _still(o))
    _evaluate(make, episodes=1, settings={"max_steps": 2})
    assert _Closing.closed == 1
    env = ENVS["tabletop/place"].make({})
    evaluate(make("tabletop/place", [env]), episodes=1, settings={"max_steps": 2})
    env.close()
    assert _Closing.closed == 1
