"""Language tests are paired with the right instruction; disturbances are tried one kind at a time."""

from typing import Any

import pytest

from vla.core.errors import UnknownNameError
from vla.evaluation.conditions import AXES, language_gaps, robustness_conditions, robustness_curves
from vla.evaluation.rows import ResultRow, summarise
from vla.evaluation.trials import Condition, EpisodeResult


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
    assert len(conditions) == 1 + sum(len(axis.levels) for axis in AXES.values())
    assert all(len(condition.perturbation) <= 1 for condition in conditions)
    assert all(tuple(sorted(a.levels)) == a.levels and min(a.levels) > 0 for a in AXES.values())
    with pytest.raises(UnknownNameError, match="did you mean 'image_noise'"):
        list(robustness_conditions([Condition(env="x")], ["image_nois"]))
    (curve,) = robustness_curves([_row("ff", image_noise=40.0), _row("ss"), _row("sf", image_noise=5.0)])
    assert [(level.level, level.success.successes) for level in curve.levels] == [
        (0, 2),
        (5.0, 1),
        (40.0, 0),
    ]
