"""Tables for Markdown and the terminal have the same cells."""

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from vla.evaluation.result import PolicyIdentity
from vla.report.evaluation.facts import Loaded, policy_name
from vla.report.evaluation.tables import evaluation_tables
from vla.report.evaluation.terminal import print_result


def _printed(result: Any) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    print_result(result, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_policy_that_is_given_twice_is_shown_once(make_comparison: Callable[..., Any]) -> None:
    result = make_comparison(sequential=False)
    both = [Loaded(name="c", result=result), Loaded(name="a", result=result.a)]
    assert evaluation_tables(both) == evaluation_tables(both[:1])


def test_every_row_of_a_table_has_every_column(results: list[Loaded]) -> None:
    text = evaluation_tables(results)
    tables = [block for block in text.split("\n\n") for block in [block.strip()] if block.startswith("|")]
    assert len(tables) >= 4
    for table in tables:
        lines = [re.sub(r"\\\|", "", line) for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1
    assert "new is better than old: decided after 7 of at most 30 scenes" in text
    assert "| distance | <held> |" in text
    assert "| 12 mm | 1 |" in text


def test_the_terminal_says_what_the_tables_say(make_evaluation: Callable[..., Any]) -> None:
    text = _printed(make_evaluation("runs/new/checkpoint", 0.9, crash=True))
    for words in ("blank instruction", "Noise on pixels", "Behind the right one", "0: ", "12 mm", "crashed", "<gone>"):
        assert words in text, words
    assert "Policy" not in text.splitlines()[0]  # one policy alone needs no column


def test_a_comparison_in_the_terminal_names_the_seeds(make_comparison: Callable[..., Any]) -> None:
    text = _printed(make_comparison(sequential=True))
    assert "A: runs/new/checkpoint" in text
    assert "tabletop/place, seeds where A succeeds and B does not: " in text
    assert "new is better than old" in text
    assert "at any time" in text


@pytest.mark.parametrize(
    ("name", "short"),
    [("runs/place/checkpoint", "place"), ("expert", "expert"), ("ws://h:1", "ws://h:1"), ("runs/x/ema", "ema")],
)
def test_policies_have_short_names(name: str, short: str) -> None:
    assert policy_name(PolicyIdentity(name=name)) == short
