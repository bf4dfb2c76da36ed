"""Scores against the truth, by other ways to count."""

import itertools

import numpy as np
import pytest

from vla.core.errors import ConfigError
from vla.evaluation.detection.auroc import auroc, calibrate, calibration_error, reliability


def _scores(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    return np.round(rng.normal(truth * 1.2, 1.0), 1), truth  # rounded, so that there are ties


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_share_of_pairs_in_order(seed: int) -> None:
    scores, truth = _scores(seed)
    pairs = list(itertools.product(scores[truth], scores[~truth]))
    counted = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    found = auroc(scores, truth)
    assert found.value == pytest.approx(counted)
    assert found.low < counted < found.high
    assert (found.successes, found.failures) == (truth.sum(), (~truth).sum())
    assert auroc(-scores, truth).value == pytest.approx(1 - counted)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Of two normal distributions one deviation apart the area is known: 0.7602."""
    rng, held = np.random.default_rng(0), 0
    truth = np.arange(80) < 40
    for _ in range(300):
        found = auroc(rng.normal(truth * 1.0, 1.0), truth)
        held += found.low <= 0.7602 <= found.high
    assert 0.91 < held / 300 < 0.985


def test_calibration_finds_the_curve_that_drew_the_labels() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(3.0, 2.0, 20_000)
    truth = rng.random(20_000) < 1 / (1 + np.exp(-(1.5 * scores - 4.0)))
    found = calibrate(scores, truth)
    assert found.slope == pytest.approx(1.5, rel=0.05)
    assert found.offset == pytest.approx(-4.0, rel=0.05)
    bins = reliability(found.probability(scores), truth)
    assert sum(each.found.episodes for each in bins) == 20_000
    assert calibration_error(bins) < 0.01
    # What is twice as sure as it should be is found out.
    assert calibration_error(reliability(found.probability(2 * scores - 8 / 3), truth)) > 0.03


def test_scores_that_part_both_make_nobody_quite_sure() -> None:
    truth = np.arange(20) < 10
    found = calibrate(np.where(truth, 5.0, -5.0), truth).probability(np.array([5.0, -5.0, 1e9]))
    assert 0.8 < found[0] < 0.99
    assert found[0] + found[1] == pytest.approx(1.0, abs=1e-6)
    assert found[2] <= 1.0


@pytest.mark.parametrize(
    ("truth", "words"), [([True, True], "all are successes"), ([False], "all are failures"), ([], "there are none")]
)
def test_one_class_is_refused(truth: list[bool], words: str) -> None:
    with pytest.raises(ConfigError, match=f"expected episodes of both, and of {len(truth)} episodes {words}"):
        auroc(np.zeros(len(truth)), np.array(truth, bool))
