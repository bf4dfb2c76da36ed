from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.report.episode.timing import measure, runs

EVEN_NS = np.arange(20, dtype=np.int64) * 50_000_000


def test_even_steps_have_no_gaps_and_no_findings():
    timing = measure(EVEN_NS + 1_700_000_000_000_000_000, 20.0)
    assert not timing.uneven
    assert timing.findings == ()
    assert len(timing.gaps) == 0
    np.testing.assert_allclose(timing.time_s, np.arange(20) / 20)
    assert timing.end_s == pytest.approx(1.0)


def test_a_gap_is_named_by_the_step_before_it():
    time_ns = EVEN_NS + 80_000_000 * (np.arange(20) > 7)
    timing = measure(time_ns, 20.0)
    assert timing.gaps.tolist() == [7]
    np.testing.assert_allclose(timing.gap_s, [0.13])
    assert timing.uneven


def test_jitter_is_uneven_but_no_gap():
    timing = measure(EVEN_NS + 4_000_000 * (np.arange(20) % 2), 20.0)
    assert timing.uneven
    assert len(timing.gaps) == 0


def test_another_rate_than_the_contracts_is_a_finding():
    (finding,) = measure(EVEN_NS, 10.0).findings
    assert "20 Hz" in finding
    assert "10 Hz" in finding


def test_times_that_do_not_rise_become_steps():
    time_ns = EVEN_NS.copy()
    time_ns[5] = time_ns[4]
    timing = measure(time_ns, 20.0)
    np.testing.assert_allclose(timing.time_s, np.arange(20) / 20)
    assert "after step 4 (1 such places)" in timing.findings[0]


def test_one_step_lasts_one_period():
    timing = measure(np.array([123], np.int64), 5.0)
    assert timing.time_s.tolist() == [0.0]
    assert timing.end_s == pytest.approx(0.2)


@given(st.lists(st.booleans(), min_size=1))
def test_runs_cover_exactly_the_true_steps(flags):
    found = runs(np.array(flags))
    covered = [step for first, last in found for step in range(first, last + 1)]
    assert covered == [step for step, flag in enumerate(flags) if flag]
    assert all(a[1] + 1 < b[0] for a, b in pairwise(found))
