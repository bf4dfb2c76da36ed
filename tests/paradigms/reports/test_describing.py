"""Entities of answers, and how many are right."""

import pytest

from vla.core.types import Question
from vla.paradigms.reports.describing import Statement, entities, entity_f1


def _statement(said: str, true: str) -> Statement:
    return Statement(question=Question(text="report", answer=true), said=said)


def test_answers_are_taken_apart() -> None:
    assert entities("A small nodule on the left,  a large mass and a large mass") == {
        "a small nodule on the left": 1,
        "a large mass": 2,
    }
    assert entities("nothing") == entities("") == {}
    assert entities("a sandy band") == {"a sandy band": 1}


def test_f1_is_of_all_entities_together() -> None:
    statements = [_statement("a, b", "a, c"), _statement("nothing", "d"), _statement("e", "e")]
    score = entity_f1(statements)
    assert (score.said, score.true, score.right) == (3, 4, 2)
    assert score.f1.mean == pytest.approx(2 * 2 / 7)
    assert score.f1.low < score.f1.mean < score.f1.high


def test_saying_more_than_is_so_costs() -> None:
    """What names everything has all of recall, and half of this."""
    everything = [_statement("a, b, c, d", "a")] * 4
    assert entity_f1(everything).f1.mean == pytest.approx(0.4)
    assert entity_f1([_statement("nothing", "nothing")]).f1.mean == 1.0
    assert entity_f1([_statement("a, a", "a")]).right == 1
