"""Language tests are paired with the right instruction; disturbances are tried one kind at a time."""

from dataclasses import replace
from typing import Any

import pytest

from vla.core.chunks import Execution
from vla.core.errors import UnknownNameError
from vla.evaluation.conditions import (
    AXES,
    EXECUTIONS,
    execution_conditions,
    execution_rates,
    language_gaps,
    robustness_conditions,
    robustness_curves,
)
from vla.evaluation.rows import ResultRow, summarise
from vla.evaluation.trials import Condition, EpisodeResult
from vla.report.evaluation.sentences import execution_sentence
from vla.report.numbers import GAP


def _row(outcomes: str, *, env: str = "x", language: Any = "right", **disturbed: Any) -> ResultRow:
    """An episode for each letter: s success, f failure."""
    episodes = [
        EpisodeResult(seed=seed, instruction="go", goal="go", success=letter == "s", steps=9)
        for seed, letter in enumerate(outcomes)
    ]
    return summarise(Condition(env=env, language=language, perturbation=disturbed), episodes)


def test_language_gaps_are_paired_differences_to_the_right_instruction() -> None:
    rows = [_row("ssss"), _row("sssf", language="paraphrase"), _row("ffff", language="blank")]
    rows += [_row("ssff", language="wrong"), _row("ssss", env="no test"), _row("ffff", image_noise=5.0)]
    gaps = language_gaps(rows)
    assert [(gap.condition.env, gap.condition.language) for gap in gaps] == [
        ("x", language) for language in ("right", "paraphrase", "blank", "wrong")
    ]
    assert [gap.behind and gap.behind.gap.difference for gap in gaps] == [None, 0.25, 1.0, 0.5]
    assert [gap.success_unsaid is not None for gap in gaps] == [False, False, False, True]


def test_robustness_tries_each_axis_alone_and_draws_curves_from_zero() -> None:
    conditions = list(robustness_conditions([Condition(env="x")]))
    assert len(conditions) == sum(len(axis.levels) for axis in AXES.values())
    assert all(len(condition.perturbation) == 1 for condition in conditions)
    assert all(tuple(sorted(a.levels)) == a.levels and min(a.levels) > 0 for a in AXES.values())
    with pytest.raises(UnknownNameError, match="did you mean 'image_noise'"):
        list(robustness_conditions([Condition(env="x")], ["image_nois"]))
    (curve,) = robustness_curves([_row("ff", image_noise=40.0), _row("ss"), _row("sf", image_noise=5.0)])
    assert [(level.level, level.success.successes) for level in curve.levels] == [
        (0, 2),
        (5.0, 1),
        (40.0, 0),
    ]


def test_ways_to_execute_are_rated_over_all_tasks_and_the_laziest_of_the_best_comes_first() -> None:
    conditions = list(execution_conditions([Condition(env="x"), Condition(env="y")]))
    assert len({condition.key for condition in conditions}) == 2 * len(EXECUTIONS)
    assert not any(condition.plain for condition in conditions)
    one, two, whole = Execution(execute=1, ensemble=0.8), Execution(execute=2), Execution()
    outcomes = {("x", one): "ssf", ("y", one): "sss", ("x", two): "sss", ("y", two): "ssf", ("x", whole): "fff"}
    rows = [
        replace(_row(letters, env=env), condition=Condition(env=env, execution=how))
        for (env, how), letters in outcomes.items()
    ]
    rates = execution_rates([_row("fff"), *rows])
    assert [rate.execution for rate in rates] == [two, one, whole]
    assert [(rate.success.successes, rate.success.episodes) for rate in rates] == [(5, 6), (5, 6), (0, 3)]
    said = execution_sentence(rates).replace(GAP, " ")
    assert said.startswith("Best: 2 steps, 83 % (5 of 6 episodes")
    assert "and 1 other is not clearly behind" in said
    assert said.endswith("In a recipe: --model.execute 2 --model.ensemble 0")
    assert "ensembled 0.8" in execution_sentence([rates[1]])
    assert language_gaps(rows) == []
