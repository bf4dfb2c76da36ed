"""``vla recommend`` by options and at a terminal."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vla.paradigms.framework import QUESTIONS


def test_by_options(call: Callable, tmp_path: Path) -> None:
    written = tmp_path / "recommended.json"
    ran = call("recommend", "--makes", "reports", "--starts", "encoders", "--json", written)
    assert ran.code == 0
    assert "cross-attention fusion" in ran.out
    assert "no generation" in ran.out
    value = json.loads(written.read_text())
    assert (value["paradigm"], value["answers"]) == ("fusion", {"makes": ["reports"], "starts": ["encoders"]})
    assert {one["section"] for one in value["reasons"]} >= {"decision", "uses", "cases"}


def test_it_asks_at_a_terminal_until_the_answer_is_one(call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter(["matchs", "matches", *[""] * (len(QUESTIONS) - 1)])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda prompt: next(said))
    ran = call("recommend")
    assert ran.code == 0
    assert "did you mean 'matches'" in ran.out
    assert "contrastive two-tower" in ran.out
    assert list(said) == []


def test_without_answers_and_a_terminal_it_says_what_is_missing(call: Callable) -> None:
    ran = call("recommend")
    assert (ran.code, "--makes actions" in ran.err) == (2, True)
