"""Rates and means with intervals, and the exact test of two paired rates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_Z95 = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class SuccessRate:
    """Successes among episodes, with the 95 % Wilson score interval."""

    rate: float
    successes: int
    episodes: int
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """Median and 95th percentile."""

    p50: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One rate less another, with its 95 % interval."""

    difference: float
    low: float
    high: float


def success_rate(successes: int, episodes: int) -> SuccessRate:
    """The Wilson score interval (E. B. Wilson, JASA 22, 1927); no episodes give the interval [0, 1]."""
    assert 0 <= successes <= episodes, (successes, episodes)
    if episodes == 0:
        return SuccessRate(rate=0.0, successes=0, episodes=0, low=0.0, high=1.0)
    p, n, z2 = successes / episodes, episodes, _Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # At the ends the formula gives 0 and 1 only up to rounding.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == episodes else centre + half
    return SuccessRate(rate=p, successes=successes, episodes=episodes, low=low, high=high)


def mean_interval(values: Sequence[float]) -> Mean | None:
    """Mean of shares between 0 and 1 with a 95 % normal interval; None without values.

    Few values that are all alike give an interval without width: it is a summary, not a test.
    """
    if not values:
        return None
    mean, n = float(np.mean(values)), len(values)
    half = _Z95 * float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else 1.0
    return Mean(mean=mean, low=max(0.0, mean - half), high=min(1.0, mean + half))


def quantiles(values: Sequence[float]) -> Quantiles | None:
    """Median and 95th percentile; None without values."""
    if not len(values):
        return None
    return Quantiles(p50=float(np.percentile(values, 50)), p95=float(np.percentile(values, 95)))


@dataclass(frozen=True, kw_only=True)
class PairedCounts:
    """Scenes on which both of two policies ran, by who succeeded."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def scenes(self) -> int:
        """How many."""
        return self.both + self.only_a + self.only_b + self.neither


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value that both succeed equally often, from the scenes where just one of them succeeded.

    Under the hypothesis each such scene is a fair coin (Q. McNemar, Psychometrika 12, 1947; the exact binomial form).
    """
    n, k = only_a + only_b, min(only_a, only_b)
    tail: int = sum(math.comb(n, i) for i in range(k + 1))
    return min(1.0, float(2 * tail / 2**n))


def paired_difference(counts: PairedCounts) -> Difference:
    """Rate of A less rate of B with its 95 % interval: method 10 of R. G. Newcombe, Statistics in Medicine 17, 1998.

    It combines the Wilson intervals of the two rates by squaring and adding, less what their correlation explains.
    """
    e, f, g, h = counts.both, counts.only_a, counts.only_b, counts.neither
    n = counts.scenes
    if n == 0:
        return Difference(difference=0.0, low=-1.0, high=1.0)
    a, b = success_rate(e + f, n), success_rate(e + g, n)
    margins = (e + f) * (g + h) * (e + g) * (f + h)
    covariance = float(e * h - f * g)
    if covariance > 0:
        covariance = max(covariance - n / 2, 0.0)
    phi = covariance / math.sqrt(margins) if margins else 0.0
    difference = (f - g) / n

    def half(of_a: float, of_b: float) -> float:
        return math.sqrt(max(0.0, of_a**2 - 2 * phi * of_a * of_b + of_b**2))

    low = difference - half(a.rate - a.low, b.high - b.rate)
    high = difference + half(a.high - a.rate, b.rate - b.low)
    return Difference(difference=difference, low=max(-1.0, low), high=min(1.0, high))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for how many there are (S. Holm, Scandinavian Journal of Statistics 6, 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
