"""The published protocol on all fifty tasks, and its score.

50 demonstrations of each task train one policy; it is tried 10 times in each task; each of the four groups of tasks
gets the mean of its tasks, and the score is the mean of the four groups, however many tasks each has (SmolVLA,
arXiv 2506.01844). The pictures of published results are those of camera ``corner4``: they move ``corner2`` there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.envs.metaworld.tasks import GROUPS, TASKS

DEMONSTRATIONS = 50
"""Of each task."""
TRIALS = 10
"""Of each task."""
CAMERA = "corner4"


def mt50_score(results: Mapping[str, float]) -> dict[str, float]:
    """The mean success rate of each group and their mean, ``average``.

    ``results`` gives the success rate (0 to 1) of each of the fifty tasks, by names with or without ``metaworld/``.
    """
    rates = {name.removeprefix("metaworld/"): float(rate) for name, rate in results.items()}
    for name, rate in rates.items():
        lookup("task of Meta-World", name, TASKS)
        if not 0.0 <= rate <= 1.0:
            raise ConfigError(f"mt50_score: the success rate of {name} must be between 0 and 1, got {rate}")
    missing = sorted(TASKS.keys() - rates.keys())
    if missing:
        raise ConfigError(f"mt50_score: {len(missing)} of {len(TASKS)} tasks have no result: {', '.join(missing)}")
    score: dict[str, float] = {}
    for group, size in GROUPS.items():
        score[group] = sum(rates[name] for name, task in TASKS.items() if task.group == group) / size
    return score | {"average": sum(score.values()) / len(GROUPS)}


def mt50_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """The score of the undisturbed rows of an evaluation, or None unless they hold each of the fifty tasks once."""
    rates = [(row["env"].removeprefix("metaworld/"), row["success"]["rate"]) for row in rows]
    mine = [(name, rate) for name, rate in rates if name in TASKS]
    return mt50_score(dict(mine)) if len(mine) == len(TASKS) == len(dict(mine)) else None


def mt50_sentence(score: Mapping[str, float]) -> str:
    """The score in words."""
    groups = ", ".join(f"{group} {score[group]:.1%}" for group in GROUPS)
    return f"MT50: {score['average']:.1%}, the mean of its groups ({groups})"
