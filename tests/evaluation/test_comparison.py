"""Paired comparisons count the right scenes."""

import pytest

from vla.evaluation.comparison import compare_episodes, compare_rows
from vla.evaluation.rows import ResultRow, summarise
from vla.evaluation.statistics import PairedCounts
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


def _row(outcomes: str, *, env: str = "x") -> ResultRow:
    return summarise(Condition(env=env), _episodes(outcomes))


def test_only_scenes_where_both_ran_count() -> None:
    value = compare_episodes(_episodes("ssffcs"), _episodes("sfsfss", first=0)[:5] + _episodes("s", first=9))
    assert value.counts == PairedCounts(both=1, only_a=1, only_b=1, neither=1)
    assert (value.only_a, value.only_b) == ((1,), (2,))
    assert (value.unpaired, value.crashed) == (2, 1)
    assert value.gap.difference == 0
    assert value.p_value == 1


def test_swapping_the_sides_mirrors_the_comparison() -> None:
    a, b = _episodes("sssssfsssf"), _episodes("sffffffsff")
    one, other = compare_episodes(a, b), compare_episodes(b, a)
    assert one.gap.difference == pytest.approx(0.6)
    assert (one.gap.difference, one.gap.low, one.gap.high) == pytest.approx(
        (-other.gap.difference, -other.gap.high, -other.gap.low)
    )
    assert one.p_value == other.p_value == 2 / 2**6
    assert one.progress_difference.mean == pytest.approx(0.6)


def test_conditions_are_matched_and_p_values_adjusted() -> None:
    a = [_row("ssssssss"), _row("ssssssss", env="y"), _row("ss", env="only here")]
    b = [_row("ffffffff", env="y"), _row("ffffffss")]
    rows = compare_rows(a, b)
    assert [row.condition.env for row in rows] == ["x", "y"]
    assert [row.paired.p_value for row in rows] == [2 / 2**6, 2 / 2**8]
    assert [row.p_adjusted for row in rows] == [2 / 2**6, 4 / 2**8]
