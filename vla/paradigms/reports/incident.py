"""What happened in an evaluated episode, as facts: from its record, and from running its actions again.

A record holds the seed, the circumstances and every action, so a replay sees what nobody kept: where the tool went,
what it touched, when it stood still, which commands were at a limit. Every number here is read off the simulator, none
off a picture; where something stood between simulator and policy, it is what was so, and not what the policy saw.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import VlaError
from vla.core.types import Observation, Question
from vla.envs.registry import env_spec
from vla.envs.spec import Questioned, RobotEnv, Witness, Witnessed, to_observation
from vla.evaluation.folder import EPISODES, read_episodes, read_result
from vla.evaluation.result import EvaluationResult
from vla.evaluation.trials import Condition, EpisodeResult, Trial
from vla.report.evaluation.video import replayed

_STILL = 0.002
"""Share of a joint's range within which it stands still from one step to the next."""
_STILL_STEPS = 5
"""Fewest steps of standing still that are worth a word."""
_MOVED_M = 0.005
FRAMES = 6


@dataclass(frozen=True, kw_only=True)
class Touch:
    """A thing, and when the robot touched it."""

    thing: str
    named: bool
    """Whether the goal is about it."""
    first: int
    last: int
    held: int
    """Steps for which it was held."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A thing that is not where it was."""

    thing: str
    named: bool
    distance_m: float
    beside: str
    """What it ended nearest to; empty where nothing else is there."""
    beside_m: float


@dataclass(frozen=True, kw_only=True)
class Approach:
    """How near the tool came to a thing that the goal is about."""

    thing: str
    distance_m: float
    step: int


@dataclass(frozen=True, kw_only=True)
class AtLimit:
    """A command that was at an end of its range."""

    name: str
    end: str
    """low or high."""
    steps: int


@dataclass(frozen=True, kw_only=True)
class Incident:
    """Everything that is known of one episode."""

    env: str
    seed: int
    language: str
    split: str
    """Of the environment's scenes and words; empty is its default."""
    perturbation: dict[str, Any]
    """What stood between the simulator and the policy; empty for nothing."""
    said: str
    goal: str
    outcome: str
    """success, failure, crash, or broke where the policy itself did."""
    why: str
    """What a crash or a broken policy said; empty otherwise."""
    steps: int
    control_hz: float | None
    progress: float
    best_progress: float
    best_step: int | None
    metrics: dict[str, float]
    clipped: int
    replayed: bool
    """Whether what follows is known: a record without its actions cannot be run again."""
    path_m: float | None = None
    """How far the tool travelled."""
    approaches: tuple[Approach, ...] = ()
    touches: tuple[Touch, ...] = ()
    moved: tuple[Moved, ...] = ()
    held_at_end: str = ""
    still_from: int | None = None
    """The step after which nothing of the robot moved any more."""
    limits: tuple[AtLimit, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Trace:
    """An episode run again, step by step; the first of each list is before the first action."""

    seen: list[Observation] = field(default_factory=list)
    """As it was, whatever the policy was shown of it, with the words that the policy was told."""
    witnessed: list[Witnessed] = field(default_factory=list)
    """Empty where the environment is no `Witness`."""
    questions: list[Sequence[Question]] = field(default_factory=list)
    """What can be asked of each moment; empty where the environment is not `Questioned`."""
    progress: list[float] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)
    """`FRAMES` pictures for people from the beginning to the end, uint8 (y, x, 3)."""


def choose_episode(path: Path, number: int | None) -> tuple[Trial, EpisodeResult]:
    """Episode ``number`` of a result in the order of its record, by default the first that did not succeed.

    ``path`` is the folder of an evaluation, which holds the actions too, or the file of ``--json``, which does not.
    """
    result = read_result(path)
    if not isinstance(result, EvaluationResult):
        raise VlaError(f"{path}: expected the evaluation of one policy, got a comparison; explain one of its sides")
    folder = path if path.is_dir() else path.parent
    if (folder / EPISODES).is_file():
        found = sorted(read_episodes(folder), key=lambda one: (one[0].condition.key, one[0].seed))
    else:
        found = [(Trial(condition=row.condition, seed=e.seed), e) for row in result.rows for e in row.episodes]
    if number is None:
        number = next((i for i, (_, episode) in enumerate(found) if not episode.success), None)
        if number is None:
            raise VlaError(f"{path}: all {len(found)} episodes succeeded; choose one of them with --episode")
    if not 0 <= number < len(found):
        raise VlaError(f"{path}: --episode {number} is not there; expected 0 to {len(found) - 1}")
    return found[number]


def examine(trial: Trial, episode: EpisodeResult) -> tuple[Incident, Trace | None]:
    """The facts of an episode; with its actions, run again in the environment that it was recorded in."""
    if not len(episode.actions) or episode.crash is not None:
        return _of_record(trial, episode), None
    env = env_spec(trial.condition.env).build(trial.condition.settings)
    try:
        trace = _run_again(env, episode, trial.condition)
        return _of_trace(trial, episode, trace, env.contract), trace
    finally:
        env.close()


class _Shown:
    """Keeps what an environment shows, before anything can disturb that on its way."""

    def __init__(self, env: RobotEnv) -> None:
        self._env = env
        self.raw: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def reset(self, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """See `RobotEnv.reset`."""
        self.raw, info = self._env.reset(**how)
        return self.raw, info

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """See `RobotEnv.step`."""
        answer = self._env.step(action)
        self.raw = answer[0]
        return answer


def _run_again(env: RobotEnv, episode: EpisodeResult, condition: Condition) -> Trace:
    trace, shown = Trace(), _Shown(env)
    pictured = set(np.linspace(0, episode.steps, FRAMES).round().astype(int).tolist())
    for _, info in replayed(cast(RobotEnv, shown), episode, condition):
        trace.seen.append(replace(to_observation(shown.raw, info), instruction=episode.instruction))
        trace.progress.append(float(info.get("progress", 0.0)))
        if len(trace.seen) - 1 in pictured:
            trace.frames.append(env.render())
        if isinstance(env, Witness):
            trace.witnessed.append(env.witness())
        if isinstance(env, Questioned):
            trace.questions.append(tuple(env.questions()))
    return trace


def _of_record(trial: Trial, episode: EpisodeResult) -> Incident:
    broke = "broke" if episode.failure else "failure"
    outcome = "crash" if episode.crash else "success" if episode.success else broke
    return Incident(
        env=trial.condition.env,
        seed=trial.seed,
        language=trial.condition.language,
        split=trial.condition.split,
        perturbation=dict(trial.condition.perturbation),
        said=episode.instruction,
        goal=episode.goal,
        outcome=outcome,
        why=episode.crash or episode.failure or "",
        steps=episode.steps,
        control_hz=None,
        progress=episode.progress,
        best_progress=episode.best_progress,
        best_step=None,
        metrics=episode.metrics,
        clipped=episode.clipped,
        replayed=False,
    )


def _of_trace(trial: Trial, episode: EpisodeResult, trace: Trace, contract: Contract) -> Incident:
    steps = trace.witnessed
    held = [name for name, thing in steps[-1].things.items() if thing.held] if steps else []
    tool = np.array([moment.tool_m for moment in steps]).reshape(-1, 3)
    return replace(
        _of_record(trial, episode),
        control_hz=contract.control_hz,
        best_step=int(np.argmax(trace.progress)),
        replayed=True,
        path_m=float(np.linalg.norm(np.diff(tool, axis=0), axis=1).sum()) if steps else None,
        approaches=tuple(_approaches(steps, episode.goal)),
        touches=tuple(_touches(steps, episode.goal)),
        moved=tuple(_moves(steps, episode.goal)),
        held_at_end=held[0] if held else "",
        still_from=_still_from(trace.seen, contract),
        limits=tuple(_at_limits(episode.actions, contract)),
    )


def is_named(thing: str, goal: str) -> bool:
    """Whether a goal is about the thing: they call it the same, ``the red block``."""
    return thing.removeprefix("the ") in goal


def _approaches(steps: Sequence[Witnessed], goal: str) -> list[Approach]:
    found = []
    for name in (steps[0].things if steps else {}) if goal else {}:
        if is_named(name, goal):
            far = [float(np.linalg.norm(s.tool_m - s.things[name].position_m)) for s in steps]
            found.append(Approach(thing=name, distance_m=min(far), step=int(np.argmin(far))))
    return found


def _touches(steps: Sequence[Witnessed], goal: str) -> list[Touch]:
    found = []
    for name in steps[0].things if steps else {}:
        when = [i for i, step in enumerate(steps) if step.things[name].touched]
        held = sum(step.things[name].held for step in steps)
        if when:
            named = is_named(name, goal)
            found.append(Touch(thing=name, named=named, first=when[0], last=when[-1], held=held))
    return sorted(found, key=lambda touch: touch.first)


def _moves(steps: Sequence[Witnessed], goal: str) -> list[Moved]:
    found = []
    for name, begin in (steps[0].things if steps else {}).items():
        end = steps[-1].things[name].position_m
        distance = float(np.linalg.norm(end - begin.position_m))
        if distance > _MOVED_M:
            others = {o: float(np.linalg.norm(t.position_m[:2] - end[:2])) for o, t in steps[-1].things.items()}
            others.pop(name)
            beside = min(others, key=lambda other: others[other], default="")
            found.append(
                Moved(
                    thing=name,
                    named=is_named(name, goal),
                    distance_m=distance,
                    beside=beside,
                    beside_m=others.get(beside, 0.0),
                )
            )
    return found


def _still_from(seen: Sequence[Observation], contract: Contract) -> int | None:
    states = np.array([moment.state for moment in seen], np.float64)
    width = np.array([d.high - d.low for d in contract.state])
    width = np.where(np.isfinite(width) & (width > 0), width, np.maximum(np.ptp(states, axis=0), 1e-9))
    moves = (np.abs(np.diff(states, axis=0)) > _STILL * width).any(axis=1)
    last = int(np.flatnonzero(moves)[-1]) + 1 if moves.any() else 0
    return last if len(moves) - last >= _STILL_STEPS else None


def _at_limits(actions: np.ndarray, contract: Contract) -> list[AtLimit]:
    found = []
    for i, dimension in enumerate(contract.action):
        if dimension.name == contract.gripper:  # open and closed are what it is for
            continue
        slack = 1e-4 * (dimension.high - dimension.low)
        for end, there in (
            ("low", actions[:, i] <= dimension.low + slack),
            ("high", actions[:, i] >= dimension.high - slack),
        ):
            if np.isfinite(slack) and there.any():
                found.append(AtLimit(name=dimension.name, end=end, steps=int(there.sum())))
    return found
