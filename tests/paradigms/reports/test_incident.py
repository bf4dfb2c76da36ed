"""Reports of real episodes that go wrong in known ways."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla.core.chunks import Execution
from vla.core.errors import VlaError
from vla.core.types import ActionChunk, Observation
from vla.envs.registry import env_spec, make_expert
from vla.envs.tabletop.tasks.task import Goal
from vla.evaluation.evaluate import evaluate
from vla.evaluation.run import run_trials
from vla.evaluation.settings import RunConfig
from vla.evaluation.trials import Condition, EpisodeResult, Trial, trials_of
from vla.paradigms.reports.incident import FRAMES, Incident, Trace, choose_episode, examine
from vla.paradigms.reports.page import incident_markdown, incident_page
from vla.paradigms.reports.telling import RULES, cause, sentences

_ENV, _SEED = "tabletop/place", 41
_STEPS = {"nothing": 80, "still": 12, "limit": 12}


class Misled:
    """The expert, until it does what its ``fault`` says; it acts in one environment."""

    def __init__(self, env: str, envs: Sequence[Any], fault: str) -> None:
        (self._env,) = envs
        self._expert, self._fault = make_expert(env, self._env), fault
        self.contract = self._env.contract
        self.reset(0)

    def reset(self, slot: int) -> None:
        self._held = 0

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        (seen,) = observations
        assert seen is not None
        self._held += any(thing.held for thing in self._env.witness().things.values())
        action = getattr(self, f"_{self._fault}")(seen.state.copy())
        return [ActionChunk(actions=action[None].astype(np.float32), time_ns=seen.time_ns)]

    def _nothing(self, state: np.ndarray) -> np.ndarray:
        return self._expert.action()

    def _still(self, state: np.ndarray) -> np.ndarray:
        return state

    def _other(self, state: np.ndarray) -> np.ndarray:
        """Goes for the block that is not named."""
        named = self._env.goal
        (block,) = (b for b in self._env.layout.things("block") if b != named.things[0])
        self._env.goal = Goal((block, named.things[1]))
        action = self._expert.action()
        self._env.goal = named
        return action

    def _keeps(self, state: np.ndarray) -> np.ndarray:
        """Stays where it is as soon as it has lifted the block."""
        return np.append(state[:-1], 0.0) if self._held > 5 else self._expert.action()

    def _drops(self, state: np.ndarray) -> np.ndarray:
        return np.append(state[:-1], 0.08) if self._held > 5 else self._expert.action()

    def _limit(self, state: np.ndarray) -> np.ndarray:
        """Turns away, joint 1 at its limit."""
        return np.append(self.contract.action[0].high, state[1:])


def _maker(fault: str) -> Callable[..., Misled]:
    def make(env: str, envs: Sequence[Any]) -> Misled:
        return Misled(env, envs, fault)

    return make


Explain = Callable[[str], tuple[Incident, Trace]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an evaluation of one episode with this fault, run once."""
    root, done = tmp_path_factory.mktemp("ran"), {}

    def run(fault: str) -> Path:
        if fault not in done:
            settings = {"image_size": 32, "max_steps": _STEPS.get(fault, 40)}
            how: dict[str, Any] = {"episodes": 1, "seed": _SEED, "run": RunConfig(workers=1, batch=1)}
            evaluate(_maker(fault), env=_ENV, settings=settings, out=root / fault, **how)
            done[fault] = root / fault
        return done[fault]

    return run


def _explained(folder: Path, number: int | None = 0) -> tuple[Incident, Trace]:
    incident, trace = examine(*choose_episode(folder, number))
    assert trace is not None
    return incident, trace


@pytest.mark.parametrize(
    ("fault", "expected", "told"),
    [
        ("nothing", "success", "held it for"),
        ("still", "never moved", "it stood still"),
        ("other", "wrong thing", "which was not named"),
        ("keeps", "still holding", "At the end it held the"),
        ("drops", "dropped", "was moved by"),
        ("limit", "not reached", "joint1 was commanded to its high limit in 12 steps"),
    ],
)
def test_what_went_wrong_is_found_and_said(ran: Callable, fault: str, expected: str, told: str) -> None:
    incident, _ = _explained(ran(fault))
    report = " ".join(sentences(incident))
    assert cause(incident) == expected, report
    assert told in report
    assert f"told “{incident.said}”" in report


def test_the_facts_are_those_of_the_simulator(ran: Callable) -> None:
    incident, trace = _explained(ran("keeps"))
    (touch,) = incident.touches
    assert touch.named
    assert touch.thing == incident.held_at_end
    held = [i for i, w in enumerate(trace.witnessed) if w.things[touch.thing].held]
    assert len(held) == touch.held
    assert touch.first <= held[0] <= held[-1] <= touch.last
    (moved,) = incident.moved
    positions = [w.things[touch.thing].position_m for w in trace.witnessed]
    assert moved.distance_m == pytest.approx(np.linalg.norm(positions[-1] - positions[0]))
    assert len(trace.progress) == len(trace.seen) == incident.steps + 1
    assert len(trace.frames) == FRAMES
    assert incident.best_progress == pytest.approx(max(trace.progress))
    assert next(a for a in incident.approaches if a.thing == touch.thing).distance_m < 0.03
    assert incident.still_from is not None
    assert held[0] < incident.still_from < incident.steps


def test_pages_hold_every_sentence(ran: Callable) -> None:
    incident, trace = _explained(ran("drops"))
    page, text = incident_page(incident, trace), incident_markdown(incident)
    for sentence in sentences(incident):
        assert sentence in page
        assert sentence in text
    assert "data:image/jpeg" in page
    assert "<svg" in page


def test_a_record_without_actions_is_told_as_far_as_it_goes(ran: Callable, tmp_path: Path) -> None:
    value = json.loads((ran("still") / "result.json").read_text())
    alone = tmp_path / "result.json"
    alone.write_text(json.dumps({k: v for k, v in value.items() if k not in ("log", "checksum", "format_version")}))
    incident, trace = examine(*choose_episode(alone, None))
    assert trace is None
    assert cause(incident) == "unknown"
    assert "The tool travelled" not in " ".join(sentences(incident))
    assert "the record holds no actions" in next(sentences(incident))


def test_episodes_that_are_not_there(ran: Callable, tmp_path: Path) -> None:
    with pytest.raises(VlaError, match="expected 0 to 0"):
        choose_episode(ran("still"), 1)
    with pytest.raises(VlaError, match="all 1 episodes succeeded"):
        choose_episode(ran("nothing"), None)
    with pytest.raises(VlaError, match="does not exist"):
        choose_episode(tmp_path / "nowhere", None)


_DISTURBED = {"action_noise": 0.02, "state_noise": 0.02, "image_noise": 20.0, "dropped_frames": 0.5}
_LATE = {"observation_latency_steps": 2, "action_latency_steps": 2}
CONDITIONS = {
    "combination": Condition(env=_ENV, split="unseen-combination"),
    "phrasing": Condition(env=_ENV, split="unseen-phrasing"),
    "viewpoint": Condition(env=_ENV, split="viewpoint"),
    "paraphrase": Condition(env=_ENV, language="paraphrase"),
    "misspelt": Condition(env=_ENV, language="misspelt"),
    "wrong": Condition(env=_ENV, language="wrong"),
    "blank": Condition(env=_ENV, language="blank"),
    "disturbed": Condition(env=_ENV, perturbation=_DISTURBED),
    "late": Condition(env=_ENV, perturbation=_LATE, language="polite", split="distractors"),
    "executed": Condition(env=_ENV, execution=Execution(execute=1)),
}
"""One of everything that an evaluation can make of an episode."""


@pytest.fixture(scope="module")
def evaluated() -> dict[str, tuple[Trial, EpisodeResult]]:
    """The expert for a while."""
    settings = {"image_size": 16, "max_steps": 14}
    conditions = {name: replace(condition, settings=settings) for name, condition in CONDITIONS.items()}
    run = RunConfig(workers=1, batch=1)
    records = run_trials(trials_of(conditions.values(), [_SEED]), {"": _maker("nothing")}, run)
    return {name: (Trial(condition=one, seed=_SEED), records.of(one)[0]) for name, one in conditions.items()}


@pytest.mark.parametrize("name", CONDITIONS)
def test_every_kind_of_episode_is_run_again(evaluated: dict[str, tuple[Trial, EpisodeResult]], name: str) -> None:
    """It ends as it did, to the last bit of what the simulator says of it."""
    trial, episode = evaluated[name]
    incident, trace = examine(trial, episode)
    assert trace is not None
    assert len(trace.seen) == episode.steps + 1
    assert (trace.progress[-1], max(trace.progress)) == (episode.progress, episode.best_progress)
    assert {moment.instruction for moment in trace.seen} == {episode.instruction}
    report = " ".join(sentences(incident))
    assert f"scene {_SEED}" in report
    for circumstance in (trial.condition.split, *trial.condition.perturbation):
        assert circumstance in report


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("combination", {"split": ""}, "recorded instruction"),
        ("phrasing", {"split": "seen"}, "recorded instruction"),
        ("paraphrase", {"language": "right"}, "recorded instruction"),
        ("misspelt", {"language": "polite"}, "recorded instruction"),
        ("disturbed", {"perturbation": {}}, "use the settings, the disturbance and the versions"),
        ("late", {"perturbation": {**_LATE, "action_latency_steps": 0}}, "recorded success=False and progress"),
        ("disturbed", {"perturbation": {"noise": 1}}, "perturbation"),
        ("blank", {"split": "elsewhere"}, "elsewhere"),
    ],
)
def test_under_other_circumstances_it_would_be_another_episode(
    evaluated: dict[str, tuple[Trial, EpisodeResult]], name: str, change: dict[str, Any], expected: str
) -> None:
    trial, episode = evaluated[name]
    with pytest.raises(VlaError, match=expected):
        examine(replace(trial, condition=replace(trial.condition, **change)), episode)


def test_what_is_told_of_a_disturbed_episode_is_what_was_so(evaluated: dict[str, tuple[Trial, EpisodeResult]]) -> None:
    """No noise of the policy's wires, and nothing late: the pictures belong to what is known of their moment."""
    trial, episode = evaluated["disturbed"]
    _, trace = examine(trial, episode)
    assert trace is not None
    env = env_spec(_ENV).build(trial.condition.settings)
    raw, _ = env.reset(seed=_SEED)
    np.testing.assert_array_equal(trace.seen[0].images["front"], raw["images"]["front"])
    np.testing.assert_array_equal(trace.seen[0].state, raw["state"])
    assert any(not np.array_equal(a.images["wrist"], b.images["wrist"]) for a, b in pairwise(trace.seen))
    assert len(trace.witnessed) == len(trace.questions) == len(trace.seen)
    env.close()


def test_another_simulation_is_not_reported_as_this_one(ran: Callable) -> None:
    """Its replay ends otherwise: told, not explained."""
    trial, episode = choose_episode(ran("nothing"), 0)
    with pytest.raises(VlaError, match="recorded success=True"):
        examine(trial, replace(episode, actions=episode.actions[:-5]))


def test_every_rule_has_words() -> None:
    assert all(words and not words.endswith(".") for _, words in RULES.values())
    assert list(RULES)[-1] == "other"
