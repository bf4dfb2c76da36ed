"""Both rates are measured, and the choice is said."""

import math

import pytest

from vla.bench import precision
from vla.bench.precision import bench_precision
from vla.bench.settings import PrecisionConfig
from vla.training.precision import PrecisionRates

QUICK = PrecisionConfig(device="cpu", batch=2, turns=1, seconds=0.1)


def test_rates_and_the_choice() -> None:
    notes: list[str] = []
    rows = bench_precision(QUICK, notes.append)
    assert rows[0].name == "products, bfloat16 against float32"
    assert all(row.ratio is not None and math.isfinite(row.ratio) for row in rows)
    assert "precision auto chooses" in notes[0]


def test_where_bfloat16_is_emulated_no_step_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = PrecisionRates(float32=100.0, bfloat16=0.3)
    monkeypatch.setattr(precision, "measure_precision", lambda device: slow)
    notes: list[str] = []
    (row,) = bench_precision(QUICK, notes.append)
    assert row.ratio == pytest.approx(0.003)
    assert "chooses float32" in notes[0]
    assert "left out" in notes[1]
