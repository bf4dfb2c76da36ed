"""Wilson intervals against published values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.envs.statistics import success_rate


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


def test_text() -> None:
    assert str(success_rate(45, 50)) == "90% (45/50, 95 % interval 79% to 96%)"
