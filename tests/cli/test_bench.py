"""The command finds every bench, shows its options, writes its rows, and explains mistakes."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vla.bench.measure import Row
from vla.bench.table import BENCHES
from vla.cli.main import main


def _call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["vla", "bench", *arguments])
    try:
        return main()
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize("name", BENCHES)
def test_help_names_the_options(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _call(monkeypatch, name, "--help") == 0
    said = capsys.readouterr().out
    assert "--json" in said
    assert "examples:" in said


def test_an_unknown_bench_gets_a_suggestion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _call(monkeypatch, "loadr") == 2
    assert "did you mean 'loader'?" in capsys.readouterr().err


def test_no_name_shows_the_list_and_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _call(monkeypatch) == 2
    said = capsys.readouterr().out
    assert all(name in said for name in BENCHES)


def test_rows_are_shown_and_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "recorder.json"
    options = ["--size", "32", "--seconds", "0.1", "--json", str(path)]
    assert _call(monkeypatch, "recorder", *options) == 0
    assert "EpisodeWriter.add" in capsys.readouterr().out
    value = json.loads(path.read_text())
    assert len(value["rows"]) == 4
    assert value["provenance"]["config"]["seconds"] == 0.1


@pytest.mark.parametrize(("value", "code"), [(0.5, 0), (1.5, 1)])
def test_strict_fails_when_a_row_falls_short(value: float, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row(name="loss", value=value, unit="s", bar=1.0), Row(name="time", value=9.0, unit="s")]
    monkeypatch.setitem(BENCHES, "test", replace(BENCHES["recorder"], run=lambda config, note: rows))
    assert _call(monkeypatch, "test") == 0
    assert _call(monkeypatch, "test", "--strict") == code
