"""Every codec is measured on a dataset, as one line each; what cannot be measured is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from vla.bench.codecs.bench import VARIANTS, bench_codecs
from vla.bench.measure import to_matrix
from vla.bench.settings import CodecsConfig
from vla.core.errors import ConfigError, UnknownNameError
from vla.models.codecs.config import CODECS

QUICK = {"fit": 300, "samples": 60, "sequences": 20}


def test_every_codec_is_a_line(dataset: Path) -> None:
    notes: list[str] = []
    rows = bench_codecs(CodecsConfig(dataset=str(dataset), **QUICK), notes.append)
    lines: dict[str, dict[str, float]] = {}
    for row in rows:
        name, _, what = row.name.partition(": ")
        lines.setdefault(name, {})[what] = row.value
    assert list(lines) == [*CODECS, *VARIANTS]
    assert len({tuple(line) for line in lines.values()}) == 1
    for name, line in lines.items():
        assert line["failures"] == 0, name
        assert 0 < line["a chunk"] <= line["budget"], name
        assert 0 < line["mean error"] <= line["largest error"], name
        assert all(0 <= line[share] <= 1 for share in ("overlap", "redundancy", "dependence")), name
    assert lines["fast"]["a chunk"] < lines["bins"]["a chunk"]
    assert "measured on 60 of held-out episodes" in notes[0]
    console = Console(width=200)
    with console.capture() as said:
        console.print(to_matrix(rows))
    first = [line.split("│")[1].strip() for line in said.get().splitlines() if line.startswith("│")]
    assert [name for name in first if name] == list(lines)


def test_some_codecs_by_name(dataset: Path) -> None:
    chosen = CodecsConfig(dataset=str(dataset), only=("spline",), validation=0.0, **QUICK)
    notes: list[str] = []
    rows = bench_codecs(chosen, notes.append)
    assert {row.name.partition(": ")[0] for row in rows} == {"spline"}
    assert "nothing is held out" in notes[0]


def test_what_cannot_be_measured_is_refused(dataset: Path) -> None:
    with pytest.raises(ConfigError, match="which dataset"):
        bench_codecs(CodecsConfig(), print)
    with pytest.raises(UnknownNameError, match="did you mean 'spline'"):
        bench_codecs(CodecsConfig(dataset=str(dataset), only=("splin",)), print)


def test_heads_learn_and_act_and_nothing_is_done_twice(dataset: Path, tmp_path: Path) -> None:
    chosen = CodecsConfig(
        dataset=str(dataset), only=("spline",), heads=("l1", "tokens spline"), runs=str(tmp_path / "runs"), seeds=1,
        steps=2, episodes=1, **QUICK,
    )  # fmt: skip
    rows = bench_codecs(chosen, lambda _: None)
    lines: dict[str, dict[str, float]] = {}
    for row in rows:
        name, _, what = row.name.partition(": ")
        lines.setdefault(name, {})[what] = row.value
    assert list(lines) == ["spline", "l1", "tokens spline"]
    for name in ("l1", "tokens spline"):
        assert lines[name]["worst seed"] <= lines[name]["success"] <= lines[name]["best seed"]
        assert lines[name]["from"] <= lines[name]["success"] <= lines[name]["to"]
        assert lines[name]["a chunk"] > 0
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("weights.safetensors")}
    assert len(times) == 2
    again = bench_codecs(chosen, lambda _: None)
    assert [row for row in again if "spline: fit" not in row.name and "decod" not in row.name][-16:] == rows[-16:]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    with pytest.raises(UnknownNameError, match="did you mean 'tokens spline'"):
        bench_codecs(replace(chosen, heads=("tokens splin",)), lambda _: None)
