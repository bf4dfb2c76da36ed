"""Which precision: measured once, kept, the same on every rank, and not measured where it is said."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vla.training import state
from vla.training.parallel import Single
from vla.training.precision import PrecisionRates, autocast, measure_precision
from vla.training.state import settle_precision


def _rates(float32: float, bfloat16: float) -> PrecisionRates:
    return PrecisionRates(float32=float(float32), bfloat16=float(bfloat16))


class _Measured:
    """Stands in for the measurement, and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rates: PrecisionRates) -> None:
        self.count = 0
        self._rates = rates
        monkeypatch.setattr(state, "measure_precision", self)

    def __call__(self, device: torch.device) -> PrecisionRates:
        self.count += 1
        return self._rates


class _Other(Single):
    """A rank that hears what rank 0 says, and has nothing of its own to say."""

    rank, world = 1, 2

    def __init__(self, heard: float) -> None:
        super().__init__("cpu")
        self._heard = heard

    def broadcast(self, values: Tensor) -> Tensor:
        return torch.full_like(values, self._heard)


@given(float32=st.floats(1, 1e5), gain=st.floats(0.01, 100))
def test_bfloat16_must_be_worth_it(float32: float, gain: float) -> None:
    best = _rates(float32, gain * float32).best
    assert best == ("bfloat16" if gain * float32 > 1.15 * float32 else "float32")
    assert best == "float32" or gain > 1.1


def test_it_is_said_in_words() -> None:
    assert str(_rates(100, 2000.4)) == "bfloat16: 2,000 GFLOP/s in bfloat16, 100 in float32"


@pytest.mark.parametrize("asked", ["float32", "bfloat16"])
def test_what_is_said_is_not_measured(asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = _Measured(monkeypatch, _rates(1, 1))
    assert settle_precision(tmp_path, asked, Single("cpu")) == asked
    assert measured.count == 0
    assert not (tmp_path / "precision.json").exists()


@pytest.mark.parametrize(("rates", "best"), [(_rates(10, 90), "bfloat16"), (_rates(90, 10), "float32")])
def test_it_is_chosen_once_and_kept(
    rates: PrecisionRates, best: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = _Measured(monkeypatch, rates)
    assert settle_precision(tmp_path, "auto", Single("cpu")) == best
    said = json.loads((tmp_path / "precision.json").read_text())
    assert said == {
        "precision": best,
        "device": "cpu",
        "gflop_per_s": {"float32": rates.float32, "bfloat16": rates.bfloat16},
    }
    _Measured(monkeypatch, _rates(rates.bfloat16, rates.float32))  # resumed where the other one is faster
    assert settle_precision(tmp_path, "auto", Single("cpu")) == best
    assert measured.count == 1


@pytest.mark.parametrize(("heard", "chosen"), [(0.0, "float32"), (1.0, "bfloat16")])
def test_other_ranks_do_as_the_first_says(
    heard: float, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = _Measured(monkeypatch, _rates(10, 10))
    assert settle_precision(tmp_path, "auto", _Other(heard)) == chosen
    assert measured.count == 0
    assert not (tmp_path / "precision.json").exists()


def test_rates_are_measured() -> None:
    rates = measure_precision(torch.device("cpu"), rows=16, width=16)
    assert rates.float32 > 0
    assert rates.bfloat16 > 0


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_products_run_in_it_and_weights_do_not(precision: Any, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with autocast(precision, torch.device("cpu")):
        assert layer(torch.ones(2, 4)).dtype == dtype
        assert torch.nn.functional.cross_entropy(torch.ones(2, 4), torch.tensor([0, 1])).dtype == torch.float32
    assert layer.weight.dtype == torch.float32
