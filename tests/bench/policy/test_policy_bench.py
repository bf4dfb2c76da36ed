"""Every head is timed beside what the machine could do, and ours beside transformers' with the same weights."""

import math

import pytest
from rich.console import Console

from vla.bench.measure import to_both
from vla.bench.policy import timing
from vla.bench.policy.bench import SIZES, bench_policy
from vla.bench.settings import PolicyConfig
from vla.core.errors import UnknownNameError


def test_heads_and_decoding_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_TURNS", 1)
    notes: list[str] = []
    heads = ("bins", "tokens", "flow")
    config = PolicyConfig(device="cpu", threads=1, sizes=("default",), heads=heads, seconds=0.02)
    rows = bench_policy(config, notes.append)
    lines: dict[str, dict[str, float]] = {}
    for row in rows:
        assert math.isfinite(row.value)
        assert row.value >= 0
        thing, _, what = row.name.partition(": ")
        if row.against is None and row.bar is None:
            lines.setdefault(thing, {})[what] = row.value
    assert list(lines) == [f"default, {name}" for name in heads]
    for name, line in lines.items():
        assert line["p50"] <= line["p99"], name
        assert line["p50"] > max(line["reading weights"], line["products"]), name
    # Each token reads the trunk again, and all at once read it once, with the inputs.
    read = {name: lines[f"default, {name}"]["reading weights"] for name in ("tokens", "bins")}
    assert read["tokens"] > 10 * read["bins"]
    compared = {row.name: row for row in rows if row.against is not None}
    bars = {name: row.bar for name, row in compared.items() if row.bar is not None}
    assert bars == {
        "default trunk, actions one by one, against generate": 5.0,
        "default trunk, actions at once, against generate": 20.0,
    }
    assert all((compared[name].ratio or 0) > 0 for name in bars)
    (p50, p99) = (row for row in rows if row.bar == 10.0)
    assert p50.value <= p99.value
    assert any("both write the same 64 tokens" in note for note in notes)
    console = Console(width=200)
    with console.capture() as said:
        console.print(to_both(rows))
    assert "default, flow" in said.get()
    assert "≥ 20×" in said.get()


def test_sizes_are_what_they_are_called() -> None:
    """Parameters of the trunk, to about a tenth."""
    for name, millions in (("10 M", 9.6), ("10 M deep", 9.4), ("100 M", 99), ("3 B", 3000)):
        config = SIZES[name]
        attention = config.width * config.size * (2 * config.heads + 2 * config.keys)
        parameters = config.layers * (attention + 3 * config.width * config.hidden)
        assert parameters / 1e6 == pytest.approx(millions, rel=0.1)


def test_an_unknown_size_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean '10 M'"):
        bench_policy(PolicyConfig(device="cpu", threads=1, sizes=("10M",), seconds=0.01), print)
