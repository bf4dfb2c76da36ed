"""Published scores over whole suites of tasks, as the environments state them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla.envs.registry import ENVS
from vla.evaluation.rows import ResultRow, plain_rows


@dataclass(frozen=True, kw_only=True)
class SuiteScore:
    """The mean of the groups of a suite; each group is the mean of its tasks, however many it has."""

    suite: str
    mean: float
    groups: dict[str, float]


def suite_scores(rows: Sequence[ResultRow]) -> list[SuiteScore]:
    """The score of every suite all of whose tasks are among the undisturbed rows exactly once."""
    suites: dict[str, dict[str, str]] = defaultdict(dict)  # suite: {task: group}
    for name, spec in ENVS.items():
        if spec.suite:
            suites[spec.suite][name] = spec.group
    plain = plain_rows(rows)
    scores = []
    for suite, tasks in suites.items():
        mine = [row for row in plain if row.condition.env in tasks]
        if sorted(row.condition.env for row in mine) != sorted(tasks):
            continue
        rates: dict[str, list[float]] = {group: [] for group in tasks.values()}
        for row in mine:
            rates[tasks[row.condition.env]].append(row.success.rate)
        groups = {group: float(np.mean(values)) for group, values in rates.items()}
        scores.append(SuiteScore(suite=suite, mean=float(np.mean(list(groups.values()))), groups=groups))
    return scores
