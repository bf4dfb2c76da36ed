"""The score of a suite: a mean of means, and only where no task is missing."""

import pytest

from vla.envs.registry import ENVS
from vla.evaluation.rows import ResultRow, summarise
from vla.evaluation.suites import suite_scores
from vla.evaluation.trials import Condition, EpisodeResult

_GROUPS = {"easy": 28, "medium": 11, "hard": 6, "very hard": 5}
_MT50 = {name: spec.group for name, spec in ENVS.items() if spec.suite == "MT50"}


def _rows(**groups: float) -> list[ResultRow]:
    return [_row(name, groups[group.replace(" ", "_")]) for name, group in _MT50.items()]


def _row(env: str, rate: float) -> ResultRow:
    episodes = [
        EpisodeResult(seed=seed, instruction="", goal="", success=seed < 4 * rate, steps=1) for seed in range(4)
    ]
    return summarise(Condition(env=env), episodes)


def test_groups_count_the_same_whatever_their_size() -> None:
    (score,) = suite_scores([*_rows(easy=1.0, medium=0.5, hard=0.25, very_hard=0.0), _row("tabletop/place", 0.0)])
    assert score.suite == "MT50"
    assert score.groups == {"easy": 1.0, "medium": 0.5, "hard": 0.25, "very hard": 0.0}
    assert score.mean == 0.4375


def test_one_task_moves_its_group_by_its_share() -> None:
    for group, size in _GROUPS.items():
        one = next(name for name, its in _MT50.items() if its == group)
        (score,) = suite_scores([_row(name, 0.5 if name == one else 0.0) for name in _MT50])
        assert score.groups[group] == pytest.approx(0.5 / size)
        assert score.mean == pytest.approx(0.5 / size / 4)


def test_a_score_needs_every_task_once() -> None:
    rows = _rows(easy=1.0, medium=1.0, hard=1.0, very_hard=1.0)
    assert suite_scores(rows[1:]) == []
    assert suite_scores([*rows, rows[0]]) == []
