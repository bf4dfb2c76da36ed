"""What results say in words, and when they do not say it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from vla.evaluation.sequential import SequentialTest
from vla.evaluation.statistics import success_rate
from vla.report.evaluation.facts import Loaded
from vla.report.evaluation.sentences import headline, sequential_sentence, success_words, troubles, verdict
from vla.report.numbers import GAP


def _said(text: str) -> str:
    return text.replace(GAP, " ")


def test_a_policy_that_listens(make_told: Callable[..., Any]) -> None:
    assert _said(verdict(make_told(right=87, blank=22, wrong=84, unsaid=1))) == (
        "The policy does what it is told in 87 % of 100 episodes, above the 25 % of a perfect arm that ignores the "
        "words, and it listens: without an instruction it succeeds in 22 %, and given another goal of the same scene "
        "it reaches that one in 84 % and the unnamed one in 1 %."
    )


def test_a_policy_that_ignores_the_words(make_told: Callable[..., Any]) -> None:
    said = _said(verdict(make_told(right=26, blank=24, wrong=24, unsaid=25)))
    assert "which the interval does not separate from the 25 %" in said
    assert "the language test does not show that it listens" in said


def test_a_policy_that_listens_in_part(make_told: Callable[..., Any]) -> None:
    assert "the language test is mixed" in verdict(make_told(right=87, blank=85, wrong=84, unsaid=1))


def test_a_verdict_without_language_test_or_chance(make_told: Callable[..., Any], make_evaluation: Callable) -> None:
    start = "The policy does what it is told in 87 % of 100 episodes"
    assert _said(verdict(make_told(right=87))) == f"{start}, above the 25 % of a perfect arm that ignores the words."
    assert ", below the 25 %" in _said(verdict(make_told(right=2)))
    assert "perfect arm" not in verdict(make_evaluation("x", 0.5))  # two tasks


def test_a_page_is_about_the_policy_beside_its_yardsticks(make_told: Callable[..., Any]) -> None:
    mine = Loaded(name="a", result=make_told(right=87))
    expert, random = (Loaded(name=name, result=make_told(name, right=50)) for name in ("expert", "random"))
    assert headline([expert, mine, random]).subject == "p in tabletop/place"
    assert headline([expert]).subject == "expert in tabletop/place"
    other = Loaded(name="b", result=make_told("runs/q/checkpoint", right=3))
    assert headline([mine, other]).success is None
    assert headline([mine, other]).sentence == "p, q in tabletop/place."


@pytest.mark.parametrize(
    ("wins", "scenes", "sentence"),
    [
        (7, 30, "new is better than old: decided after 7 of at most 30 scenes"),
        (3, 3, "No difference between new and old was shown after 0 of at most 3 scenes: those left could not"),
    ],
)
def test_sequential_verdicts(wins: int, scenes: int, sentence: str) -> None:
    test = SequentialTest(scenes=scenes)
    for _ in range(wins):
        if not test.over:
            test.add(True, False)
    assert sequential_sentence(test.verdict(), "new", "old").startswith(sentence)


def test_success_in_words() -> None:
    assert _said(success_words(success_rate(45, 50))) == "90 % (45 of 50 episodes, 95 % interval 79–96 %)"


def test_clipped_commands_are_told_by_condition(make_told: Callable[..., Any]) -> None:
    result = make_told(right=87, blank=22, wrong=84)
    counts = {"right": 100, "blank": 564, "wrong": 0}
    rows = tuple(
        replace(row, clipped_steps=counts[row.condition.language], steps=1000)
        for row in result.rows
        if row.condition.language in counts
    )
    (said,) = troubles([Loaded(name="", result=replace(result, rows=rows))])
    assert _said(said).endswith(
        "clipped to them: 564 under blank instruction (56 % of its commands); "
        "100 under right instruction (10 % of its commands)."
    )


def test_scenes_of_the_training_are_told(make_told: Callable[..., Any]) -> None:
    result = replace(make_told(right=87), overlaps=("a: 3 of the 5 scenes",))
    assert list(troubles([Loaded(name="", result=result)])) == ["a: 3 of the 5 scenes"]
