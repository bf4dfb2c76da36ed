"""Rates are counted right, ratios turn so that more is better, and the result reads back."""

import io
import json
import os
import time

import pytest
from rich.console import Console

from vla.bench.measure import (
    Row,
    compare,
    cpu_rates,
    cpu_seconds,
    in_fresh_process,
    to_json,
    to_matrix,
    to_table,
)


def test_of_rates_more_is_better_and_of_times_less() -> None:
    assert compare("a", 30.0, "frames/s", against=10.0).ratio == 3.0
    assert compare("a", 2.0, "s", against=10.0).ratio == 5.0


@pytest.mark.parametrize(
    ("row", "passes"),
    [
        (compare("a", 30.0, "frames/s", against=10.0, bar=3.0), True),
        (compare("a", 30.0, "frames/s", against=10.0, bar=3.1), False),
        (compare("a", 2.0, "s", against=10.0, bar=5.1), False),
        (Row(name="a", value=2500.0, unit="frames/s", bar=2500.0), True),
        (Row(name="a", value=2499.0, unit="frames/s", bar=2500.0), False),
        (Row(name="a", value=2.1, unit="s", bar=2.0), False),
        (Row(name="a", value=9.9, unit="%", bar=10.0), True),
        (Row(name="a", value=9.9, unit="%"), None),
    ],
)
def test_a_row_passes_its_bar_or_falls_short(row: Row, passes: bool | None) -> None:
    assert row.passes is passes


def test_work_is_counted_by_its_cpu_time() -> None:
    def spin(seconds: float) -> int:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        return 10

    def spin_and_wait() -> int:
        time.sleep(0.03)  # costs no CPU time
        return spin(0.01)

    rates = cpu_rates(
        {"plain": lambda: spin(0.01), "slow": lambda: spin(0.04), "waits": spin_and_wait}, 0.05, repeats=2
    )
    assert 300 < rates["plain"] <= 1001
    assert 100 < rates["slow"] <= 251
    assert 300 < rates["waits"] <= 1001


def test_works_take_turns() -> None:
    calls: list[str] = []

    def work(name: str) -> int:
        calls.append(name)
        return 1

    cpu_rates({"a": lambda: work("a"), "b": lambda: work("b")}, 0.0, repeats=3)
    assert calls == ["a", "b"] * 4


def test_cpu_seconds_of_a_process_grow_with_its_work() -> None:
    before, start = cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() < start + 0.1:
        pass
    assert cpu_seconds(os.getpid()) - before == pytest.approx(0.1, abs=0.06)


def test_a_fresh_process_is_another_one_and_its_errors_come_back() -> None:
    assert in_fresh_process(os.getpid) != os.getpid()
    with pytest.raises(ValueError, match="invalid literal"):
        in_fresh_process(int, "x")


def test_the_result_has_all_keys_and_its_origin() -> None:
    rows = [compare("a", 30.0, "frames/s", against=10.0, bar=3.0), Row(name="b", value=1.0, unit="s")]
    value = json.loads(json.dumps(to_json(rows, bench="x"), allow_nan=False))
    assert value["rows"][0] == {
        "name": "a",
        "value": 30.0,
        "unit": "frames/s",
        "against": 10.0,
        "ratio": 3.0,
        "bar": 3.0,
    }
    assert value["rows"][1]["against"] is None
    assert value["provenance"]["bench"] == "x"
    assert value["provenance"]["hardware"]["cores"] >= 1


def test_the_table_says_which_bars_are_missed() -> None:
    rows = [
        compare("a", 30.0, "frames/s", against=10.0, bar=2.0),
        compare("b", 30.0, "frames/s", against=10.0, bar=4.0),
        Row(name="c", value=12.0, unit="%", bar=10.0),
        Row(name="d", value=1.0, unit="s"),
    ]
    out = io.StringIO()
    Console(file=out, width=120).print(to_table(rows))
    lines = {line.split("│")[1].strip(): line for line in out.getvalue().splitlines() if line.startswith("│")}
    assert "pass" in lines["a"]
    assert "≥ 2×" in lines["a"]
    assert "falls short" in lines["b"]
    assert "falls short" in lines["c"]
    assert "≤ 10 %" in lines["c"]
    assert "pass" not in lines["d"]
    assert "short" not in lines["d"]


def test_a_matrix_has_a_line_for_each_thing_and_what_was_not_measured_is_empty() -> None:
    rows = [
        Row(name="a: time", value=1.5, unit="ms"),
        Row(name="a: lost", value=2.0, unit="of 9", bar=0.0),
        Row(name="b: time", value=0.25, unit="ms"),
    ]
    console = Console(width=60, force_terminal=True, color_system="standard")
    with console.capture() as said:
        console.print(to_matrix(rows))
    lines = [line for line in said.get().splitlines() if "│" in line]
    assert ["1.5" in line for line in lines] == [True, False]
    assert "\x1b[31m2\x1b[0m" in lines[0]  # falls short
    assert "0.25" in lines[1]
