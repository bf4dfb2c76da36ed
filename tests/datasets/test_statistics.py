"""Statistics are exact, survive JSON bit for bit, and refuse what would poison a policy."""

import json

import numpy as np
import pytest

from vla.core.errors import DatasetError
from vla.datasets.statistics import Statistics, compute_statistics


def rows(count: int = 1000) -> np.ndarray:
    return np.random.default_rng(0).normal([1.0, -2.0, 0.0], [1.0, 0.1, 3.0], (count, 3)).astype(np.float32)


def test_numpy_agrees_on_valid_rows() -> None:
    data = rows()
    valid = np.random.default_rng(1).random(1000) < 0.5
    statistics = compute_statistics(data, valid)
    kept = data[valid].astype(np.float64)
    assert statistics.count == valid.sum()
    for name in ("mean", "std", "min", "max"):
        np.testing.assert_array_equal(getattr(statistics, name), getattr(kept, name)(axis=0))
    np.testing.assert_array_equal(statistics.q01, np.quantile(kept, 0.01, axis=0))
    np.testing.assert_array_equal(statistics.q99, np.quantile(kept, 0.99, axis=0))
    assert statistics.constant == (False, False, False)


def test_constant_dimensions() -> None:
    data = rows()
    data[:, 1] = 0.1
    data[:, 2] = np.float32(1000) + np.arange(1000) % 2 * np.float32(1e-4)
    assert compute_statistics(data).constant == (False, True, True)
    assert compute_statistics(data[:1]).constant == (True, True, True)


def test_json() -> None:
    statistics = compute_statistics(rows())
    value = json.loads(json.dumps(statistics.to_json()))
    assert Statistics.from_json(value, where="here") == statistics
    for damaged in ({**value, "mean": [1.0]}, {**value, "std": None}, {k: value[k] for k in value if k != "q99"}):
        with pytest.raises(DatasetError, match=r"here: the statistics .*compute them again"):
            Statistics.from_json(damaged, where="here")


def test_no_rows() -> None:
    with pytest.raises(DatasetError, match="action: expected at least 1 valid row, got none of 10"):
        compute_statistics(rows(10), np.zeros(10, bool), what="action")


def test_not_finite() -> None:
    data = rows(10)
    data[3, 2] = np.nan
    with pytest.raises(DatasetError, match="dimension 2"):
        compute_statistics(data)
    valid = np.arange(10) != 3
    assert compute_statistics(data, valid).count == 9
