"""Paired comparisons count the right scenes, and refuse what is not comparable."""

from typing import Any

import pytest
from vla.evaluation.language_gap import language_gaps
from vla.evaluation.robustness import AXES, robustness_conditions, robustness_curves

from vla.core.errors import UnknownNameError, VlaError
from vla.evaluation.comparison import compare_episodes, compare_rows, require_same_scenes
from vla.evaluation.result import summarise
from vla.evaluation.trials import Condition, EpisodeResult


def _episodes(outcomes: str, first: int = 0) -> list[EpisodeResult]:
    """One for each letter: s success, f failure, c crash."""
    return [
        EpisodeResult(
            seed=first + i,
            instruction="go",
            goal=f"goal {first + i}",
            success=letter == "s",
            progress=float(letter == "s"),
            steps=9,
            crash="boom" if letter == "c" else None,
        )
        for i, letter in enumerate(outcomes)
    ]


def _row(outcomes: str, *, env: str = "x", language: str = "right", **perturbation: Any) -> dict[str, Any]:
    base = {"env": env, "policy": "", "split": "", "language": language, "perturbation": perturbation}
    return {**base, **summarise(_episodes(outcomes))}


def _plain(outcomes: str, first: int = 0) -> list[dict[str, Any]]:
    return [result.to_json() for result in _episodes(outcomes, first)]


def test_only_scenes_where_both_ran_count() -> None:
    value = compare_episodes(_plain("ssffcs"), _plain("sfsfss", first=0)[:5] + _plain("s", first=9))
    assert value["counts"] == {"both": 1, "only_a": 1, "only_b": 1, "neither": 1}
    assert (value["only_a"], value["only_b"]) == ([1], [2])
    assert (value["unpaired"], value["crashed"]) == (2, 1)
    assert value["difference"] == 0
    assert value["p_value"] == 1


def test_swapping_the_sides_mirrors_the_comparison() -> None:
    a, b = _plain("sssssfsssf"), _plain("sffffffsff")
    one, other = compare_episodes(a, b), compare_episodes(b, a)
    assert one["difference"] == pytest.approx(0.6)
    assert (one["difference"], one["low"], one["high"]) == pytest.approx(
        (-other["difference"], -other["high"], -other["low"])
    )
    assert one["p_value"] == other["p_value"] == 2 / 2**6
    assert one["progress_difference"]["mean"] == pytest.approx(0.6)


def test_conditions_are_matched_and_p_values_adjusted() -> None:
    a = [_row("ssssssss"), _row("ssssssss", env="y"), _row("ss", env="only here")]
    b = [_row("ffffffff", env="y"), _row("ffffffss")]
    rows = compare_rows(a, b)
    assert [row["env"] for row in rows] == ["x", "y"]
    assert [row["p_value"] for row in rows] == [2 / 2**6, 2 / 2**8]
    assert [row["p_adjusted"] for row in rows] == [2 / 2**6, 4 / 2**8]


def _result(rows: list[dict[str, Any]], contract: str = "abc", **settings: Any) -> dict[str, Any]:
    environments = {row["env"]: {"contract": contract} for row in rows}
    return {"rows": rows, "config": {"settings": settings}, "environments": environments}


def test_results_of_other_scenes_are_refused() -> None:
    a = _result([_row("ss")])
    require_same_scenes(a, _result([_row("sf")]))
    other_goal = _result([_row("ss")])
    other_goal["rows"][0]["episodes"][1]["goal"] = "elsewhere"
    for b, message in (
        (_result([_row("ss")], blocks=3), "settings"),
        (_result([_row("ss")], contract="def"), "contract of x abc ≠ def"),
        (_result([_row("ss", env="y")]), "only A has x"),
        (other_goal, "seed 1: goal 'goal 1' ≠ 'elsewhere'"),
    ):
        with pytest.raises(VlaError, match=message):
            require_same_scenes(a, b)


def test_language_gaps_are_paired_differences_to_the_right_instruction() -> None:
    rows = [_row("ssss"), _row("sssf", language="paraphrase"), _row("ffff", language="blank")]
    rows += [_row("ssff", language="wrong"), _row("ssss", env="no test"), _row("ffff", image_noise=5.0)]
    gaps = language_gaps(rows)
    assert [(gap["env"], gap["language"]) for gap in gaps] == [
        ("x", language) for language in ("right", "paraphrase", "blank", "wrong")
    ]
    assert [gap["gap"] and gap["gap"]["difference"] for gap in gaps] == [None, 0.25, 1.0, 0.5]
    assert [gap["success_unsaid"] is not None for gap in gaps] == [False, False, False, True]


def test_robustness_tries_each_axis_alone_and_draws_curves_from_zero() -> None:
    conditions = list(robustness_conditions([Condition(env="x")]))
    assert len(conditions) == 1 + sum(map(len, AXES.values()))
    assert all(len(condition.perturbation) <= 1 for condition in conditions)
    assert all(tuple(sorted(levels)) == levels and min(levels) > 0 for levels in AXES.values())
    with pytest.raises(UnknownNameError, match="did you mean 'image_noise'"):
        list(robustness_conditions([Condition(env="x")], ["image_nois"]))
    (curve,) = robustness_curves([_row("ff", image_noise=40.0), _row("ss"), _row("sf", image_noise=5.0)])
    assert [(point["level"], point["success"]["successes"]) for point in curve["points"]] == [
        (0, 2),
        (5.0, 1),
        (40.0, 0),
    ]
