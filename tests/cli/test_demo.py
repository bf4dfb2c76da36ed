"""``vla demo`` from nothing to a report, with a tiny model and few episodes."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vla.datasets.store.manifest import latest_number
from vla.models.checkpoint import load_model

_PHASES = ["collect", "train", "evaluate", "baselines", "report"]


def test_from_nothing_to_a_report_and_again(
    call: Callable, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})  # one CPU: evaluations start no processes
    out = tmp_path / "demo"
    command = ("demo", "--minutes", "0.3", "--engine", "inline", "--recipe", recipe, "--out", out)
    first = call(*command, "--json", tmp_path / "facts.json")
    assert first.code == 0, first.err
    load_model(out / "checkpoint")
    facts = json.loads((out / "report.json").read_text())
    assert facts == json.loads((tmp_path / "facts.json").read_text())
    assert facts["success"].keys() >= {"rate", "low", "high", "successes", "episodes"}
    assert 0 <= facts["success"]["low"] <= facts["success"]["rate"] <= facts["success"]["high"] <= 1
    assert [phase["name"] for phase in facts["phases"]] == _PHASES
    assert all(phase["seconds"] >= 0 for phase in facts["phases"])
    rates = {row["name"]: row["success"]["rate"] for row in facts["rows"]}
    assert rates["expert"] > 0.5
    assert rates["random"] == 0
    page = (out / "report.html").read_text()
    assert "<html" in page
    assert "data:video/mp4" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert str(out / "report.html") in first.out.replace("\n", "")

    second = call(*command)
    assert second.code == 0, second.err
    assert "not collected again" in second.out
    assert latest_number(out / "data") == 1
    again = json.loads((out / "report.json").read_text())
    assert "collect" not in [phase["name"] for phase in again["phases"] if phase["seconds"] > 1]
    assert again["success"] == facts["success"]
    assert again["training"]["steps"] == facts["training"]["steps"]
