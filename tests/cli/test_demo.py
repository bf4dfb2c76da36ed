"""``vla demo`` from nothing to a report, with a tiny model and few episodes."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vla.datasets.store.manifest import latest_number
from vla.evaluation.folder import read_result
from vla.evaluation.result import EvaluationResult
from vla.models.checkpoint import load_model


def test_from_nothing_to_a_report_and_again(
    call: Callable, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})  # one CPU: evaluations start no processes
    out = tmp_path / "demo"
    command = ("demo", "--minutes", "0.1", "--engine", "inline", "--recipe", recipe, "--out", out)
    first = call(*command, "--json", tmp_path / "result.json")
    assert first.code == 0, first.err
    load_model(out / "checkpoint")
    result = read_result(out / "evaluation")
    assert isinstance(result, EvaluationResult)
    assert result.to_json() == json.loads((tmp_path / "result.json").read_text())
    assert [row.condition.language for row in result.rows] == ["right", "blank", "wrong"]
    yardsticks = {name: read_result(out / "yardsticks" / name) for name in ("expert", "random")}
    rates = {name: result.success.rate for name, result in yardsticks.items() if isinstance(result, EvaluationResult)}
    assert rates["expert"] > 0.5
    assert rates["random"] == 0
    page = (out / "report.html").read_text()
    assert "<html" in page
    assert "data:video/mp4" in page
    for curve in ("Loss by step", "Error by step", "Samples per second by step"):  # of what the loop really logs
        assert curve in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert str(out / "report.html") in first.out.replace("\n", "")

    second = call(*command)
    assert second.code == 0, second.err
    assert "not collected again" in second.out
    assert latest_number(out / "data") == 1
    assert "episodes are there already" in second.out
    assert read_result(out / "evaluation").rows == result.rows
    again = call("report", out / "evaluation", "--out", tmp_path / "again.html", "--clips", "1")
    assert again.code == 0, again.err
    text = (tmp_path / "again.html").read_text()
    for part in ("does what it is told", "Does it listen?", "Training", "data:video/mp4", "Length of episodes"):
        assert part in text
        assert part in page
