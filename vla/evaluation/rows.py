"""What the episodes of one condition say together."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from vla.evaluation.run import Outcome
from vla.evaluation.statistics import Mean, Quantiles, SuccessRate, mean_interval, quantiles, success_rate
from vla.evaluation.trials import Condition, EpisodeResult


@dataclass(frozen=True, kw_only=True)
class GoalRate:
    """Success of the episodes with one goal."""

    goal: str
    success: SuccessRate


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of one inference, and of a command: from its observation, most often found in the chunk already."""

    inference: Quantiles | None
    control: Quantiles | None


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One condition: its success with an interval, means over its episodes, and the episodes.

    Crashed episodes are counted apart and are no failures of the policy.
    """

    condition: Condition
    success: SuccessRate
    success_unsaid: SuccessRate
    """With a wrong instruction: of the goal that was not said."""
    progress: Mean | None
    """At the end; None without episodes."""
    best_progress: Mean | None
    metrics: dict[str, float]
    """Means of what the environment measured, over the episodes that say it."""
    crashes: int
    crash: str | None
    """The first."""
    failures: int
    """Episodes that the policy itself ended by breaking down."""
    failure: str | None
    """The first."""
    clipped_steps: int
    steps: int
    mean_steps: float | None
    inference_ms: float | None
    latency_ms: Latency
    seconds: float
    goals: tuple[GoalRate, ...]
    episodes: tuple[EpisodeResult, ...]


def summarise(condition: Condition, results: Sequence[EpisodeResult]) -> ResultRow:
    """The row of these episodes."""
    ran = [result for result in results if result.crash is None]
    return ResultRow(
        condition=condition,
        success=success_rate(sum(r.success for r in ran), len(ran)),
        success_unsaid=success_rate(sum(r.success_unsaid for r in ran), len(ran)),
        progress=mean_interval([r.progress for r in ran]),
        best_progress=mean_interval([r.best_progress for r in ran]),
        metrics=_metrics(ran),
        crashes=len(results) - len(ran),
        crash=next((r.crash for r in results if r.crash), None),
        failures=sum(r.failure is not None for r in ran),
        failure=next((r.failure for r in ran if r.failure), None),
        clipped_steps=sum(r.clipped for r in ran),
        steps=sum(r.steps for r in ran),
        mean_steps=_mean([r.steps for r in ran]),
        inference_ms=_mean([r.inference_ms for r in ran]),
        latency_ms=_latency(ran),
        seconds=float(sum(r.seconds for r in results)),
        goals=_by_goal(ran),
        episodes=tuple(results),
    )


def rows_of(outcome: Outcome, conditions: Iterable[Condition]) -> list[ResultRow]:
    """One row for each condition that the environments know."""
    return [summarise(c, outcome.of(c)) for c in conditions if c.key not in outcome.refusals]


def overall(rows: Sequence[ResultRow]) -> SuccessRate:
    """All episodes of some rows together."""
    return success_rate(sum(r.success.successes for r in rows), sum(r.success.episodes for r in rows))


def plain_rows(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """The undisturbed ones, executed as the evaluation says."""
    return [row for row in rows if row.condition.plain]


def task_rows(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """The undisturbed ones in their first language, one for each task and split: what a success rate usually means."""
    plain = plain_rows(rows)
    return [row for row in plain if row.condition.language == plain[0].condition.language]


def _metrics(results: Sequence[EpisodeResult]) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for result in results:
        for name, value in result.metrics.items():
            values[name].append(value)
    return {name: float(np.mean(found)) for name, found in values.items()}


def _latency(results: Sequence[EpisodeResult]) -> Latency:
    inference = list(chain.from_iterable(r.latencies_ms for r in results))
    ready = [0.0] * max(0, sum(r.steps for r in results) - len(inference))
    return Latency(inference=quantiles(inference), control=quantiles([*inference, *ready]))


def _by_goal(results: Sequence[EpisodeResult]) -> tuple[GoalRate, ...]:
    groups: dict[str, list[bool]] = defaultdict(list)
    for result in results:
        groups[result.goal].append(result.success)
    return tuple(GoalRate(goal=goal, success=success_rate(sum(g), len(g))) for goal, g in sorted(groups.items()))


def _mean(values: Sequence[float | int]) -> float | None:
    return float(np.mean(values)) if len(values) else None
