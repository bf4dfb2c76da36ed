"""What a set of evaluated episodes says, as plain JSON values."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from vla.envs.evaluation import EpisodeResult
from vla.envs.statistics import success_rate


def summarise(results: Sequence[EpisodeResult]) -> dict[str, Any]:
    """Success with its interval, the same for the goal that was not said, per goal, and means over the episodes.

    Crashed episodes are counted apart and are no failures of the policy.
    """
    ran = [result for result in results if result.crash is None]
    return {
        "success": asdict(success_rate(sum(r.success for r in ran), len(ran))),
        "success_unsaid": asdict(success_rate(sum(r.success_unsaid for r in ran), len(ran))),
        "grasped": sum(r.grasped for r in ran),
        "crashes": len(results) - len(ran),
        "mean_steps": _mean([r.steps for r in ran]),
        "inference_ms": _mean([r.inference_ms for r in ran]),
        "grounding_error_m": _mean([r.grounding_error_m for r in ran if r.grounding_error_m is not None]),
        "instructions": _by_goal(ran),
        "episodes": [r.to_json() for r in results],
    }


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
