"""Numbers become 32 bits without losing what they say, or not at all."""

import numpy as np
import pytest

from vla.core.errors import DatasetError
from vla.datasets.formats.dimensions import Extent, as_rows


@pytest.mark.parametrize(
    "array",
    [
        np.array([0.1, 0.2]),
        np.array([[True, False]]),
        np.array([2**24, -(2**24), 2**30]),
        np.array([255, 0], np.uint8),
        np.array([[2**63]], np.uint64),
        np.array([1.0 + 1e-12, 1.0]),  # a simulator's noise
        np.array([1500.123456789, -1500.0]),
        np.empty((0, 3)),
        np.empty((3, 0)),
    ],
)
def test_what_survives(array: np.ndarray) -> None:
    rows = as_rows(array, "here")
    assert rows.dtype == np.float32
    assert np.allclose(rows, array.reshape(rows.shape), rtol=1e-6)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[1, 2], [3, 2**24 + 1]]), "int64 16777217 at step 1, column 1 would become 16777216.0"),
        (np.array([2**63 - 1]), "int64 9223372036854775807"),
        (np.array([2**64 - 1], np.uint64), "uint64 18446744073709551615"),
        (1.7e9 + np.arange(5) / 30, "float64 1700000000.0333"),  # a clock as a state
        (np.array([4_500_000.0, 4_500_000.3]), "float64 4500000.3"),  # metres from the equator
        (np.array([1.0, np.nan]), "expected finite numbers, got nan at step 1, column 0"),
        (np.array([1.0, 1e300]), r"got 1e\+300 at step 1"),
        (np.array([[1, 2], [3]], object), r"rows of different lengths, missing values"),
        (np.array(["a", "b"]), "got <U1"),
        (np.array([1j]), "got complex128"),
        (np.zeros((2, 2, 2)), r"got float64 \(2, 2, 2\)"),
    ],
)
def test_what_does_not_is_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(DatasetError, match=f"^here: .*{message}"):
        as_rows(array, "here")


def test_the_extent_of_many_arrays() -> None:
    extent = Extent(2)
    extent.add(np.array([[1.0, np.nan], [3.0, np.inf]]))
    extent.add(np.empty((0, 2)))
    assert (extent.low.tolist(), extent.high.tolist()) == ([1.0, np.inf], [3.0, -np.inf])
    extent.add(np.array([[2.0, 5.0]], np.float32))
    assert (extent.low.tolist(), extent.high.tolist()) == ([1.0, 5.0], [3.0, 5.0])
