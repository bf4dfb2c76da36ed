"""Success rates with intervals."""

import math
from dataclasses import dataclass

_Z95 = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class SuccessRate:
    """Successes among episodes, with the 95 % Wilson score interval."""

    rate: float
    successes: int
    episodes: int
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.rate:.0%} ({self.successes}/{self.episodes}, 95 % interval {self.low:.0%} to {self.high:.0%})"


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
