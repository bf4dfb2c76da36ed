"""What a set of evaluated episodes says, as plain JSON values."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np

from vla.evaluation.run import Outcome
from vla.evaluation.statistics import mean_interval, quantiles, success_rate
from vla.evaluation.trials import Condition, EpisodeResult


def summarise(results: Sequence[EpisodeResult]) -> dict[str, Any]:
    """Success with its interval, the same for the goal that was not said, per goal, and means over the episodes.

    Crashed episodes are counted apart and are no failures of the policy.
    """
    ran = [result for result in results if result.crash is None]
    return {
        "success": asdict(success_rate(sum(r.success for r in ran), len(ran))),
        "success_unsaid": asdict(success_rate(sum(r.success_unsaid for r in ran), len(ran))),
        "progress": mean_interval([r.progress for r in ran]),
        "best_progress": mean_interval([r.best_progress for r in ran]),
        "crashes": len(results) - len(ran),
        "crash": next((r.crash for r in results if r.crash), None),
        "failures": sum(r.failure is not None for r in ran),
        "failure": next((r.failure for r in ran if r.failure), None),
        "clipped_steps": sum(r.clipped for r in ran),
        "steps": sum(r.steps for r in ran),
        "mean_steps": _mean([r.steps for r in ran]),
        "inference_ms": _mean([r.inference_ms for r in ran]),
        "latency_ms": _latency(ran),
        "seconds": sum(r.seconds for r in results),
        "metrics": _metrics(ran),
        "instructions": _by_goal(ran),
        "episodes": [r.to_json() for r in results],
    }


def rows_of(outcome: Outcome, conditions: Iterable[Condition]) -> list[dict[str, Any]]:
    """One summary for each condition that the environments know, the condition's own fields first."""
    known = [condition for condition in conditions if condition.key not in outcome.refusals]
    return [{**asdict(condition), **summarise(outcome.of(condition))} for condition in known]


def overall(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All episodes of some summaries together."""
    rates = [row["success"] for row in rows]
    return asdict(success_rate(sum(r["successes"] for r in rates), sum(r["episodes"] for r in rates)))


def _latency(results: Sequence[EpisodeResult]) -> dict[str, Any]:
    """Of one inference, and of a command: from its observation, which most often finds it in the chunk already."""
    inference = list(chain.from_iterable(r.latencies_ms for r in results))
    ready = [0.0] * max(0, sum(r.steps for r in results) - len(inference))
    return {"inference": quantiles(inference), "control": quantiles([*inference, *ready])}


def _metrics(results: Sequence[EpisodeResult]) -> dict[str, float]:
    """The mean of each metric, of the episodes that have it."""
    values: dict[str, list[float]] = defaultdict(list)
    for result in results:
        for name, value in result.metrics.items():
            values[name].append(value)
    return {name: float(np.mean(found)) for name, found in values.items()}


def _by_goal(results: Sequence[EpisodeResult]) -> list[dict[str, Any]]:
    groups: dict[str, list[EpisodeResult]] = defaultdict(list)
    for result in results:
        groups[result.goal].append(result)
    return [
        {"instruction": goal, "success": asdict(success_rate(sum(r.success for r in group), len(group)))}
        for goal, group in sorted(groups.items())
    ]


def _mean(values: Sequence[float | int]) -> float | None:
    return float(np.mean(values)) if len(values) else None
