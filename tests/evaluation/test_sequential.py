"""The sequential test keeps its promise under optional stopping, and finds differences."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.core.errors import ConfigError
from vla.evaluation.sequential import SequentialTest, always_valid_share, log_e_value
from vla.evaluation.statistics import mcnemar

_MOST = 300
_LOG_GAMMA = np.array([math.lgamma(n / 2) for n in range(1, 2 * _MOST + 4)])
"""Of 1/2, 1, 3/2 and so on."""


def _log_e_values(wins_a: np.ndarray, wins_b: np.ndarray) -> np.ndarray:
    """The same as `log_e_value`, in bulk."""
    n = wins_a + wins_b
    return n * np.log(2) + _LOG_GAMMA[2 * wins_a] + _LOG_GAMMA[2 * wins_b] - _LOG_GAMMA[2 * n + 1] - np.log(np.pi)


def _decided(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Bool (k,): which comparisons, bool (k, scenes) each, ever claim a difference."""
    wins_a, wins_b = (a & ~b).cumsum(axis=1), (b & ~a).cumsum(axis=1)
    return np.asarray(_log_e_values(wins_a, wins_b).max(axis=1) >= np.log(20))


def _run(a: np.ndarray, b: np.ndarray) -> SequentialTest:
    test = SequentialTest(scenes=len(a))
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        test.add(x, y)
        if test.over:
            break
    return test


@pytest.mark.parametrize(("rate", "shared"), [(0.5, 0.0), (0.9, 0.0), (0.5, 0.7), (0.05, 0.0)])
def test_without_a_difference_it_errs_as_seldom_as_promised(rate: float, shared: float) -> None:
    """``shared`` of the scenes are decided by the scene alone."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((5000, _MOST)) < rate for _ in range(2))
    same = rng.random(a.shape) < shared
    # 5,000 tries at 5 % would give 250 in the mean; three standard deviations above are 296.
    assert _decided(a, np.where(same, a, b)).sum() <= 296


def test_the_simulation_is_the_test() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((40, 100)) < 0.8, rng.random((40, 100)) < 0.6
    np.testing.assert_array_equal([_run(*pair).decided for pair in zip(a, b, strict=True)], _decided(a, b))


def test_looking_at_an_ordinary_test_again_and_again_errs_more_often() -> None:
    """What the sequential test is for: the same stopping with McNemar's p-value breaks its promise."""
    rng = np.random.default_rng(0)
    heads = (rng.random((100, 150)) < 0.5).cumsum(axis=1)
    looks = range(10, 150, 10)
    wrong = sum(any(mcnemar(int(row[n - 1]), n - int(row[n - 1])) < 0.05 for n in looks) for row in heads)
    assert wrong / 100 > 0.1


@pytest.mark.parametrize(("a", "b", "power", "mean_scenes"), [(0.9, 0.6, 0.97, 65), (0.95, 0.8, 0.85, 130)])
def test_it_finds_differences_and_stops_early(a: float, b: float, power: float, mean_scenes: float) -> None:
    rng = np.random.default_rng(1)
    of_a, of_b = rng.random((1000, _MOST)) < a, rng.random((1000, _MOST)) < b
    assert _decided(of_a, of_b).mean() >= power
    tests = [_run(*pair) for pair in zip(of_a[:60], of_b[:60], strict=True)]
    assert all(test.verdict().better in ("a", None) for test in tests)
    assert np.mean([test.seen for test in tests]) <= mean_scenes


def test_the_interval_holds_at_all_times() -> None:
    rng = np.random.default_rng(2)
    missed = 0
    for _ in range(40):
        test, inside = SequentialTest(scenes=120), True
        for scene in range(120):
            test.add(bool(rng.random() < 0.8), bool(rng.random() < 0.6))
            if scene % 20 == 19:
                low, high = test.difference_interval()
                inside &= low <= 0.2 <= high
        missed += not inside
    assert missed <= 4
    assert high - low < 0.55


def test_it_stops_when_nothing_can_decide_any_more() -> None:
    test = SequentialTest(scenes=20)
    for _ in range(14):
        test.add(True, True)
    assert test.over
    assert test.hopeless
    assert test.verdict().why == "hopeless"
    assert not SequentialTest(scenes=20).over


def test_crashed_scenes_count_for_nobody() -> None:
    test = SequentialTest(scenes=50)
    for _ in range(10):
        test.add(None, True)
        test.add(False, None)
    assert (test.skipped, test.only_a, test.only_b) == (20, 0, 0)
    assert not test.decided


def test_known_values() -> None:
    # B(7.5, 0.5) / B(0.5, 0.5) is C(14, 7) / 4^7: seven wins in a row are worth 3432 / 128.
    assert math.exp(log_e_value(7, 0)) == pytest.approx(3432 / 128)
    assert log_e_value(0, 0) == 0
    test = SequentialTest(scenes=100)
    while not test.over:
        test.add(True, False)
    assert test.seen == 7
    assert test.verdict().better == "a"
    assert test.verdict().p_value == pytest.approx(128 / 3432)


@given(a=st.integers(0, 60), b=st.integers(0, 60))
def test_it_is_a_fair_bet(a: int, b: int) -> None:
    """After any history the mean of the next value is the present one, and A and B are treated alike."""
    following = (math.exp(log_e_value(a + 1, b)) + math.exp(log_e_value(a, b + 1))) / 2
    assert following == pytest.approx(math.exp(log_e_value(a, b)))
    assert log_e_value(a, b) == pytest.approx(log_e_value(b, a))


@given(successes=st.integers(0, 200), failures=st.integers(0, 200))
def test_the_share_is_inside_its_interval(successes: int, failures: int) -> None:
    low, high = always_valid_share(successes, failures, 0.05)
    assert 0 <= low <= successes / max(1, successes + failures) <= high <= 1 or successes + failures == 0
    mirrored = always_valid_share(failures, successes, 0.05)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0])
def test_impossible_levels(alpha: float) -> None:
    with pytest.raises(ConfigError, match="alpha"):
        SequentialTest(alpha=alpha, scenes=10)
