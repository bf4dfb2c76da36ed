"""How well a score tells successes from failures, and how sure one may be of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from vla.core.errors import ConfigError
from vla.evaluation.statistics import SuccessRate, success_rate

_Z95 = 1.959963984540054
_ROUNDS, _RIDGE = 50, 1e-3


@dataclass(frozen=True, kw_only=True)
class Auroc:
    """The chance that a success has a larger score than a failure, with its 95 % interval."""

    value: float
    low: float
    high: float
    successes: int
    failures: int


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """From a score to how probable it makes a success: ``1 / (1 + exp(-(slope * score + offset)))``."""

    slope: float
    offset: float

    def probability(self, scores: Float[np.ndarray, " b"]) -> Float[np.ndarray, " b"]:
        """Of each score."""
        found: np.ndarray = 1 / (1 + np.exp(-np.clip(self.slope * np.asarray(scores) + self.offset, -30, 30)))
        return found


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Those of which about the same was believed, and how many were successes."""

    believed: float
    """The mean probability."""
    found: SuccessRate


def auroc(scores: Float[np.ndarray, " b"], truth: Bool[np.ndarray, " b"]) -> Auroc:
    """By ranks (Mann and Whitney), ties count half; the interval is that of Hanley and McNeil (Radiology 143, 1982)."""
    _require_both(truth)
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    n, m = int(truth.sum()), int((~truth).sum())
    area = (float(ranks[truth].sum()) - n * (n + 1) / 2) / (n * m)
    # The chance that two successes are both above one failure, and that one success is above two failures.
    two, one = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (n - 1) * (two - area**2) + (m - 1) * (one - area**2)
    half = _Z95 * math.sqrt(max(0.0, spread) / (n * m))
    return Auroc(value=area, low=max(0.0, area - half), high=min(1.0, area + half), successes=n, failures=m)


def calibrate(scores: Float[np.ndarray, " b"], truth: Bool[np.ndarray, " b"]) -> Calibration:
    """Logistic regression of one score by Newton's method, with targets as of Platt (1999), that are never 0 or 1."""
    _require_both(truth)
    n, m = int(truth.sum()), int((~truth).sum())
    target = np.where(truth, (n + 1) / (n + 2), 1 / (m + 2))
    middle, width = float(np.mean(scores)), float(np.std(scores)) or 1.0
    x = np.stack([(np.asarray(scores, np.float64) - middle) / width, np.ones(len(scores))], axis=1)
    weights = np.zeros(2)
    for _ in range(_ROUNDS):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        pull = x.T @ (p - target) + _RIDGE * weights
        weights -= np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + _RIDGE * np.eye(2), pull)
    return Calibration(slope=float(weights[0] / width), offset=float(weights[1] - weights[0] * middle / width))


def reliability(probabilities: Float[np.ndarray, " b"], truth: Bool[np.ndarray, " b"], bins: int = 10) -> Sequence[Bin]:
    """What was believed beside what was found, in bins of equal width; those that nothing fell into are left out."""
    number = np.minimum((np.asarray(probabilities) * bins).astype(int), bins - 1)
    found = []
    for own in (number == i for i in range(bins)):
        if own.any():
            rate = success_rate(int(truth[own].sum()), int(own.sum()))
            found.append(Bin(believed=float(probabilities[own].mean()), found=rate))
    return found


def calibration_error(bins: Sequence[Bin]) -> float:
    """The mean distance between what was believed and what was found, each bin by how many it holds."""
    total = sum(each.found.episodes for each in bins)
    return sum(each.found.episodes * abs(each.believed - each.found.rate) for each in bins) / total


def _require_both(truth: Bool[np.ndarray, " b"]) -> None:
    if truth.all() or not truth.any():
        found = f"all are {'successes' if truth.all() else 'failures'}" if len(truth) else "there are none"
        raise ConfigError(
            "success detector: some successes and failures must be known to learn from and to measure on; expected "
            f"episodes of both, and of {len(truth)} episodes {found}; collect what a policy fails at with vla collect "
            "--policy CHECKPOINT --label expert"
        )
