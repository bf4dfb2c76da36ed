"""Comparing two policies scene by scene, with the right to stop at any time.

Take the scenes, in an order fixed before anything ran, on which just one of the two policies succeeds. If both succeed
equally often, each of these is a fair coin. A gambler who starts with 1 and bets on the coin by a Beta(1/2, 1/2)
mixture over its bias then has, after a wins of A and b of B,

    E = 2^(a+b) · B(a + 1/2, b + 1/2) / B(1/2, 1/2),

a martingale with mean 1. By Ville's inequality (J. Ville, 1939) the chance that E ever reaches 1/α is at most α: so one
may look after each scene, stop as soon as E ≥ 1/α, and still be wrong in at most a share α of all comparisons without a
difference. See H. Robbins, Ann. Math. Stat. 41, 1970 (mixtures); Grünwald, de Heide, Koolen, arXiv 1906.07801
(e-values). The same martingale around every other bias gives an interval that holds at all times.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from vla.core.errors import ConfigError
from vla.evaluation.statistics import Difference

_PRIOR = 0.5


def log_e_value(wins_a: int, wins_b: int) -> float:
    """Natural logarithm of E, the evidence against a fair coin."""
    return (wins_a + wins_b) * math.log(2) + _log_beta_ratio(wins_a, wins_b)


def always_valid_share(successes: int, failures: int, alpha: float) -> tuple[float, float]:
    """An interval for the probability of a success that holds at all times together with probability 1 - alpha.

    All p whose martingale, the mixture over p^successes · (1-p)^failures, has not reached 1/alpha.
    """
    bound = _log_beta_ratio(successes, failures) + math.log(alpha)

    def inside(p: float) -> bool:
        return _log_likelihood(p, successes, failures) > bound

    best = successes / max(1, successes + failures)
    if not successes + failures:
        return 0.0, 1.0
    return _edge(0.0, best, inside), _edge(1.0, best, inside)


@dataclass(frozen=True, kw_only=True)
class SequentialVerdict:
    """What a sequential test found: the evidence, and two intervals, all valid however the stop was chosen."""

    alpha: float
    scenes: int
    """How many were looked at."""
    most_scenes: int
    skipped: int
    better: Literal["a", "b"] | None
    """None where no difference was shown."""
    why: Literal["decided", "hopeless", "no more scenes"]
    """Why it stopped."""
    e_value: float
    p_value: float
    only_a: int
    only_b: int
    share_low: float
    """Share of A among the scenes that one of the two wins: its interval leaves out a half exactly when E decides."""
    share_high: float
    gap: Difference
    """Of the rates, A less B; its interval is wider than that of the share."""
    log10_e: tuple[float, ...]
    """After each scene."""


@dataclass(kw_only=True)
class SequentialTest:
    """Takes scenes in their order until it knows, or there are no more."""

    alpha: float = 0.05
    """Share of comparisons without a difference that may end with one."""
    scenes: int
    """The most scenes that there will be."""
    both: int = 0
    only_a: int = 0
    only_b: int = 0
    neither: int = 0
    skipped: int = 0
    """Scenes without a pair: an episode crashed."""
    log_e_max: float = 0.0
    path: list[float] = field(default_factory=list)
    """log10 of E after each scene."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ConfigError(f"sequential test: alpha={self.alpha} must be between 0 and 1")

    def add(self, a: bool | None, b: bool | None) -> None:
        """The next scene: whether A and B succeeded; None where one crashed."""
        if a is None or b is None:
            self.skipped += 1
        elif a and b:
            self.both += 1
        elif a:
            self.only_a += 1
        elif b:
            self.only_b += 1
        else:
            self.neither += 1
        log_e = log_e_value(self.only_a, self.only_b)
        self.log_e_max = max(self.log_e_max, log_e)
        self.path.append(log_e / math.log(10))

    @property
    def seen(self) -> int:
        """Scenes so far."""
        return len(self.path)

    @property
    def decided(self) -> bool:
        """Whether the policies differ, with an error of at most ``alpha``."""
        return self.log_e_max >= -math.log(self.alpha)

    @property
    def hopeless(self) -> bool:
        """Whether no run of luck on the scenes that are left could decide."""
        left = self.scenes - self.seen
        best = max(log_e_value(self.only_a + left, self.only_b), log_e_value(self.only_a, self.only_b + left))
        return best < -math.log(self.alpha)

    @property
    def over(self) -> bool:
        """Whether to stop."""
        return self.decided or self.hopeless or self.seen >= self.scenes

    def verdict(self) -> "SequentialVerdict":
        """What is known by now."""
        low, high = self.difference_interval()
        share = always_valid_share(self.only_a, self.only_b, self.alpha)
        better: Literal["a", "b"] = "a" if self.only_a > self.only_b else "b"
        rate = (self.only_a - self.only_b) / max(1, self.seen - self.skipped)
        return SequentialVerdict(
            alpha=self.alpha,
            scenes=self.seen,
            most_scenes=self.scenes,
            skipped=self.skipped,
            better=better if self.decided else None,
            why="decided" if self.decided else "hopeless" if self.seen < self.scenes else "no more scenes",
            e_value=math.exp(min(self.log_e_max, 600.0)),
            p_value=math.exp(-self.log_e_max),
            only_a=self.only_a,
            only_b=self.only_b,
            share_low=share[0],
            share_high=share[1],
            gap=Difference(difference=rate, low=low, high=high),
            log10_e=tuple(round(value, 4) for value in self.path),
        )

    def difference_interval(self) -> tuple[float, float]:
        """For the rate of A less that of B, at all times with probability 1 - alpha.

        The difference is q (2 p - 1), where q is the share of scenes that tell the two apart and p that of A among
        those. Each has an interval with half of alpha; their extremes are taken, so it is wide rather than wrong.
        """
        told = self.only_a + self.only_b
        q = always_valid_share(told, self.both + self.neither, self.alpha / 2)
        p = always_valid_share(self.only_a, self.only_b, self.alpha / 2)
        corners = [share * (2 * bias - 1) for share in q for bias in p]
        return min(corners), max(corners)


def _log_beta_ratio(a: int, b: int) -> float:
    """Log of B(a + 1/2, b + 1/2) / B(1/2, 1/2): the mixture's own likelihood of a particular order."""
    beta = math.lgamma(a + _PRIOR) + math.lgamma(b + _PRIOR) - math.lgamma(a + b + 2 * _PRIOR)
    return beta - 2 * math.lgamma(_PRIOR) + math.lgamma(2 * _PRIOR)


def _log_likelihood(p: float, successes: int, failures: int) -> float:
    if (p <= 0 and successes) or (p >= 1 and failures):
        return -math.inf
    return (successes and successes * math.log(p)) + (failures and failures * math.log1p(-p))


def _edge(outside: float, inside: float, test: Any) -> float:
    """Where between the two the test changes; ``outside`` itself if it holds there."""
    if test(outside):
        return outside
    for _ in range(60):
        middle = (outside + inside) / 2
        if test(middle):
            inside = middle
        else:
            outside = middle
    return outside
