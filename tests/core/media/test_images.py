"""Resized frames are means of what they cover, and nothing moves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.core.media.images import resize_frame


def _frame(y: int, x: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (y, x, 3)).astype(np.uint8)


@given(y=st.integers(1, 9), x=st.integers(1, 9), by=st.integers(1, 5), seed=st.integers(0, 99))
def test_enlarged_pixels_shrink_to_themselves(y: int, x: int, by: int, seed: int) -> None:
    blocks = _frame(y, x, seed)
    frame = np.kron(blocks, np.ones((by, by, 1), np.uint8))
    assert np.abs(resize_frame(frame, (y, x)).astype(float) - blocks).max() <= 255 * 0.2  # soft edges


@given(source=st.integers(40, 400), target=st.integers(10, 400), axis=st.integers(0, 1))
def test_a_ramp_stays_a_ramp(source: int, target: int, axis: int) -> None:
    """Pixel centres keep their place in the picture: a box filter fails this."""
    value = np.rint((np.arange(source) + 0.5) / source * 255).astype(np.uint8)
    frame = np.broadcast_to(value[:, None, None], (source, 3, 3)).swapaxes(0, axis)
    resized = resize_frame(np.ascontiguousarray(frame), (target, 3) if axis == 0 else (3, target))
    line = resized.swapaxes(0, axis)[:, 0, 0].astype(float)
    expected = (np.arange(target) + 0.5) / target * 255
    inside = slice(2, -2)  # there is nothing to average with beyond the border
    step = 255 / min(source, target)
    assert np.abs(line - expected)[inside].max() <= 1 + 0.1 * step


@pytest.mark.parametrize("size", [(12, 16), (3, 16), (12, 2), (1, 1)])
def test_size_and_range(size: tuple[int, int]) -> None:
    frame = _frame(6, 8)
    resized = resize_frame(frame, size)
    assert resized.shape == (*size, 3)
    assert resized.dtype == np.uint8
    flat = np.full((6, 8, 3), 77, np.uint8)
    assert (resize_frame(flat, size) == 77).all()


def test_the_same_size_is_the_same_frame() -> None:
    frame = _frame(6, 8)
    assert resize_frame(frame, (6, 8)) is frame
