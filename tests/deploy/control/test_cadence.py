"""Deadlines are absolute, and what goes by is counted and not caught up."""

import time

import pytest

from vla.deploy.control import cadence
from vla.deploy.control.cadence import Cadence


class Clock:
    """Time that passes only where somebody spends it; sleeping takes a little longer than asked."""

    def __init__(self, late_s: float = 0.0) -> None:
        self.now, self.late_s = 100.0, late_s

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds + self.late_s


def test_late_awakenings_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(late_s=0.003)
    monkeypatch.setattr(cadence, "time", clock)
    ticking = Cadence(50.0)
    for _ in range(1000):
        assert ticking.wait() == 0
    rhythm = ticking.rhythm()
    assert clock.now == pytest.approx(100 + 1000 / 50 + 0.003)
    assert rhythm.drift_ms == pytest.approx(3, abs=1e-6)
    assert (rhythm.ticks, rhythm.missed) == (1000, 0)
    assert rhythm.lateness_p50_ms == rhythm.lateness_max_ms == pytest.approx(3, abs=1e-6)


def test_deadlines_that_go_by_are_skipped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(cadence, "time", clock)
    ticking = Cadence(10.0)
    woke = []
    for busy in (0.01, 0.25, 0.01, 0.1, 0.35, 0.0):
        clock.now += busy
        assert ticking.wait() == {0.25: 2, 0.35: 3}.get(busy, 0)
        woke.append(round(clock.now - 100, 6))
    assert woke == [0.1, 0.4, 0.5, 0.6, 1.0, 1.1]
    assert ticking.rhythm().missed == 5
    assert ticking.rhythm().rate_hz == pytest.approx(6 / 1.1)
    assert ticking.rhythm().ticks == 6


def test_on_a_real_clock_it_does_not_drift() -> None:
    ticking, began = Cadence(200.0), time.monotonic()
    while time.monotonic() - began < 0.5:
        ticking.wait()
    rhythm = ticking.rhythm()
    assert (rhythm.ticks + rhythm.missed) / 200 == pytest.approx(0.5, abs=0.02)
    assert rhythm.lateness_max_ms >= rhythm.lateness_p99_ms >= rhythm.lateness_p50_ms >= 0


def test_a_new_beginning_knows_nothing_of_what_was_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(late_s=0.05)
    monkeypatch.setattr(cadence, "time", clock)
    ticking = Cadence(10.0)
    for busy in (0.0, 0.25, 0.0):
        clock.now += busy
        ticking.wait()
    assert ticking.late_s == pytest.approx(0.05)
    clock.late_s = 0.001
    ticking.begin()
    assert ticking.late_s == 0
    assert ticking.rhythm().lateness_max_ms == 0
    ticking.wait()
    rhythm = ticking.rhythm()
    assert (rhythm.ticks, rhythm.missed) == (1, 0)
    assert rhythm.lateness_p99_ms == rhythm.lateness_max_ms == pytest.approx(1)
    assert rhythm.rate_hz == pytest.approx(1 / 0.101)


def test_of_very_many_ticks_the_last_ones_say_how_late(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(late_s=0.004)
    monkeypatch.setattr(cadence, "time", clock)
    monkeypatch.setattr(cadence, "_KEPT", 8)
    ticking = Cadence(10.0)
    for tick in range(30):
        clock.late_s = 0.004 if tick < 20 else 0.003 if tick == 23 else 0.002
        ticking.wait()
    rhythm = ticking.rhythm()
    assert rhythm.lateness_p50_ms == pytest.approx(2)
    assert 2.5 < rhythm.lateness_p99_ms < 3  # one of the last eight
    assert rhythm.lateness_max_ms == pytest.approx(4)
    assert rhythm.ticks == 30
