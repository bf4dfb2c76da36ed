"""Resampling against definitions written out one step at a time."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vla.datasets.formats.mcap.clock import as_fraction, control_times, held, holes, in_hole, rate_hz, set_back

TIMES = st.lists(st.integers(0, 3_000_000_000), min_size=1, max_size=30, unique=True).map(
    lambda times: np.array(sorted(times), np.int64)
)
RATES = st.sampled_from([Fraction(1), Fraction(3), Fraction(10), Fraction(30), Fraction(30_000, 1001), Fraction(1, 2)])


@given(start=st.integers(0, 2**61), span=st.integers(-10, 5_000_000_000), hz=RATES)
def test_steps_fill_the_common_span(start: int, span: int, hz: Fraction) -> None:
    times = control_times([start, start - 5], [start + span, start + span + 7], hz)
    expected = []
    while (place := len(expected) * 1_000_000_000 * hz.denominator // hz.numerator) <= span:
        expected.append(start + place)
    assert times.tolist() == expected


@given(times=TIMES, steps=TIMES, hz=RATES)
def test_the_last_value_not_after_a_step_holds(times: np.ndarray, steps: np.ndarray, hz: Fraction) -> None:
    for step, place in zip(steps.tolist(), held(times, steps, hz).tolist(), strict=True):
        before = [row for row, time in enumerate(times.tolist()) if time <= step + 1_000_000]
        assert place == (before[-1] if before else 0)


def test_a_value_of_the_same_millisecond_counts() -> None:
    """15 Hz in whole milliseconds, rounded up: each step has the value of its own."""
    times = np.array([(step * 1000 + 14) // 15 * 1_000_000 for step in range(40)], np.int64)
    steps = control_times([0], [int(times[-1])], Fraction(15))
    assert held(times, steps, Fraction(15)).tolist() == list(range(len(steps)))
    assert len(steps) == 40


def test_rates() -> None:
    jitter = np.array([0, 33, 67, 100, 132, 167, 400], np.int64) * 1_000_000
    assert rate_hz(jitter) == 30.0
    assert rate_hz(np.array([0, 4_000_000_000], np.int64)) == 0.25
    assert rate_hz(np.array([5], np.int64)) is None
    assert as_fraction(29.97) == Fraction(2997, 100)


def test_steps_in_a_hole() -> None:
    """From when a value was due until one came; what comes in bursts has no holes between them."""
    times = np.array([0, 100, 200, 300, 1200, 1300], np.int64) * 1_000_000
    steps = np.arange(13, dtype=np.int64) * 100_000_000
    hz = Fraction(10)
    assert np.flatnonzero(in_hole(times, steps, held(times, steps, hz), hz)).tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    bursts = np.concatenate([np.arange(0, 1300, 100) + shift for shift in (0, 1, 2)])
    bursts = np.sort(bursts).astype(np.int64) * 1_000_000
    assert not in_hole(bursts, steps, held(bursts, steps, hz), hz).any()
    assert not in_hole(times[:1], steps, held(times[:1], steps, hz), hz).any()
    fast = np.array([*range(0, 50), *range(70, 100)], np.int64) * 1_000_000  # 20 ms are less than a step
    assert not holes(fast, hz).any()
    assert np.flatnonzero(holes(fast, Fraction(100))).tolist() == [49]


def test_a_clock_that_was_set_back() -> None:
    clock = np.arange(100, dtype=np.int64) * 20_000_000
    assert set_back(clock) is None
    assert set_back(np.concatenate([clock[50:], clock[:50]])) is None  # chunks in another order
    late = clock.copy()
    late[[40, 41]] = late[[41, 40]]
    assert set_back(late) is None
    assert set_back(np.concatenate([clock[:60], clock[40:60] + 3_000_000, clock[60:]])) == 60
    assert set_back(np.concatenate([clock, clock - 60_000_000_000])) == 100
    assert set_back(np.concatenate([clock[:60], clock[40:]])) == 60  # to the nanosecond
    assert set_back(clock[:0]) is None
