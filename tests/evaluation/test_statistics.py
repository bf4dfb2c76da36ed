"""Wilson intervals against published values; paired tests against their definition and in simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.evaluation.statistics import Mean, PairedCounts, holm, mcnemar, mean_interval, paired_difference, success_rate


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        (10, 10, 0.7225, 1.0),
        (0, 10, 0.0, 0.2775),
        (45, 50, 0.7864, 0.9565),
        (90, 100, 0.8256, 0.9448),
        (81, 263, 0.2553, 0.3662),  # Newcombe, Statistics in Medicine 17 (1998), table I
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_known_intervals(successes: int, episodes: int, low: float, high: float) -> None:
    rate = success_rate(successes, episodes)
    assert rate.rate == successes / episodes
    assert (round(rate.low, 4), round(rate.high, 4)) == (low, high)


@given(episodes=st.integers(0, 500), share=st.floats(0, 1))
def test_the_rate_is_inside_its_interval(episodes: int, share: float) -> None:
    rate = success_rate(int(share * episodes), episodes)
    assert 0 <= rate.low <= rate.rate <= rate.high <= 1
    mirrored = success_rate(episodes - rate.successes, episodes)
    assert mirrored.low == pytest.approx(1 - rate.high)


def test_mcnemar_is_the_binomial_test() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 0) == pytest.approx(2 / 32)
    assert mcnemar(12, 2) == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert mcnemar(4, 4) == 1
    assert mcnemar(3, 9) == mcnemar(9, 3)


def test_mcnemar_keeps_its_level_and_power() -> None:
    rng = np.random.default_rng(0)
    rejected = np.array([mcnemar(k, 40 - k) <= 0.05 for k in range(41)])
    assert rejected[rng.binomial(40, 0.5, 5000)].mean() <= 0.05
    assert rejected[rng.binomial(40, 0.8, 5000)].mean() > 0.95


@pytest.mark.parametrize("chances", [(0.6, 0.2, 0.1, 0.1), (0.85, 0.1, 0.02, 0.03), (0.3, 0.1, 0.1, 0.5)])
@pytest.mark.parametrize("scenes", [30, 100])
def test_paired_intervals_cover_as_often_as_they_say(chances: tuple[float, ...], scenes: int) -> None:
    rng = np.random.default_rng(0)
    truth = chances[1] - chances[2]
    inside = 0
    for both, only_a, only_b, neither in rng.multinomial(scenes, chances, 600).tolist():
        value = paired_difference(PairedCounts(both=both, only_a=only_a, only_b=only_b, neither=neither))
        inside += value.low <= truth <= value.high
    assert 0.93 <= inside / 600 <= 0.995


@given(counts=st.tuples(*[st.integers(0, 50)] * 4))
def test_paired_differences_lie_in_their_intervals(counts: tuple[int, int, int, int]) -> None:
    both, only_a, only_b, neither = counts
    value = paired_difference(PairedCounts(both=both, only_a=only_a, only_b=only_b, neither=neither))
    assert -1 <= value.low <= value.difference <= value.high <= 1
    mirrored = paired_difference(PairedCounts(both=both, only_a=only_b, only_b=only_a, neither=neither))
    assert mirrored.low == pytest.approx(-value.high)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_means_have_intervals_inside_the_unit_range() -> None:
    assert mean_interval([]) is None
    value = mean_interval([0.0, 1.0, 1.0, 1.0])
    assert value is not None
    assert value.mean == 0.75
    assert value.low == pytest.approx(0.75 - 1.96 * 0.25, abs=1e-3)
    assert value.high == 1.0
    assert mean_interval([0.5]) == Mean(mean=0.5, low=0.0, high=1.0)
