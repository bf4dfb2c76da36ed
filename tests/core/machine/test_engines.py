"""Work is shared out only where that ends sooner."""

import sys

import pytest

from vla.core.machine.engines import EngineChoice, choose_engine


@pytest.mark.parametrize("engine", ["ray", "processes", "inline"])
def test_what_is_asked_for_is_done(engine: EngineChoice) -> None:
    assert choose_engine(engine, shares=1, workers=1, seconds=0.0) == engine


@pytest.fixture(autouse=True)
def nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_little_work_stays_here() -> None:
    assert choose_engine("auto", shares=1, workers=8, seconds=1000.0) == "inline"
    assert choose_engine("auto", shares=8, workers=1, seconds=1000.0) == "inline"
    assert choose_engine("auto", shares=8, workers=8, seconds=1.0) == "inline"
    assert choose_engine("auto", shares=8, workers=8, seconds=1000.0) == "processes"
    assert choose_engine("auto", shares=8, workers=8) == "processes"


def test_more_workers_are_worth_it_sooner() -> None:
    assert choose_engine("auto", shares=2, workers=2, seconds=5.0) == "inline"
    assert choose_engine("auto", shares=8, workers=8, seconds=5.0) == "processes"


def test_a_cluster_that_was_joined_is_used(ray_cluster: None) -> None:
    assert choose_engine("auto", shares=8, workers=1, seconds=1000.0) == "ray"
    assert choose_engine("auto", shares=8, workers=1, seconds=1.0) == "inline"


def test_a_cluster_that_is_asked_for_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert choose_engine("auto", shares=8, workers=1, seconds=1000.0) == "ray"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.delitem(sys.modules, "ray", raising=False)  # other tests of this process may have joined one
    assert choose_engine("auto", shares=8, workers=8, seconds=1000.0) == "processes"
