"""The score over all tasks: a mean of means, refused while a task is missing."""

import pytest
from vla.envs.metaworld.protocol import mt50_of, mt50_score, mt50_sentence

from vla.core.errors import ConfigError, UnknownNameError
from vla.envs.metaworld.tasks import GROUPS, TASKS


def _rates(**groups: float) -> dict[str, float]:
    return {name: groups[task.group.replace(" ", "_")] for name, task in TASKS.items()}


def test_groups_count_the_same_whatever_their_size() -> None:
    score = mt50_score(_rates(easy=1.0, medium=0.5, hard=0.25, very_hard=0.0))
    assert score == {"easy": 1.0, "medium": 0.5, "hard": 0.25, "very hard": 0.0, "average": 0.4375}


def test_one_task_moves_its_group_by_its_share() -> None:
    for group, size in GROUPS.items():
        rates = dict.fromkeys(TASKS, 0.0)
        rates[next(name for name, task in TASKS.items() if task.group == group)] = 0.5
        score = mt50_score({f"metaworld/{name}": rate for name, rate in rates.items()})
        assert score[group] == pytest.approx(0.5 / size)
        assert score["average"] == pytest.approx(0.5 / size / 4)


def test_a_score_needs_all_tasks_and_only_them() -> None:
    rates = _rates(easy=1.0, medium=1.0, hard=1.0, very_hard=1.0)
    with pytest.raises(ConfigError, match=r"1 of 50 tasks have no result: drawer-open"):
        mt50_score({name: rate for name, rate in rates.items() if name != "drawer-open"})
    with pytest.raises(UnknownNameError, match="did you mean 'drawer-open'"):
        mt50_score(rates | {"drawer-opne": 1.0})
    with pytest.raises(ConfigError, match="between 0 and 1, got 9"):
        mt50_score(rates | {"drawer-open": 9})


def test_the_rows_of_an_evaluation() -> None:
    rows = [{"env": f"metaworld/{name}", "success": {"rate": 0.5}} for name in TASKS]
    other = {"env": "tabletop/place", "success": {"rate": 0.0}}
    score = mt50_of([*rows, other])
    assert score is not None
    assert score["average"] == pytest.approx(0.5)
    assert "MT50: 50.0%" in mt50_sentence(score)
    assert mt50_of(rows[1:]) is None
    assert mt50_of([*rows, rows[0]]) is None
