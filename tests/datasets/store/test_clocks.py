"""Which frame a step sees: the latest that is not after it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vla.datasets.store.clocks import holes, latest_frame

TIMES = st.lists(st.integers(-(2**62), 2**62), max_size=20, unique=True).map(
    lambda times: np.array(sorted(times), np.int64)
)


def test_a_frame_at_the_step_counts_and_one_after_it_does_not() -> None:
    frames = np.array([10, 20, 30], np.int64)
    steps = np.array([9, 10, 19, 20, 31], np.int64)
    assert latest_frame(frames, steps).tolist() == [-1, 0, 0, 1, 2]


@given(frames=TIMES, steps=TIMES)
def test_no_step_sees_the_future_and_none_misses_a_later_frame(frames: np.ndarray, steps: np.ndarray) -> None:
    seen = latest_frame(frames, steps)
    assert seen.dtype == np.int64
    for step, number in zip(steps.tolist(), seen.tolist(), strict=True):
        assert (frames[: number + 1] <= step).all()
        assert (frames[number + 1 :] > step).all()


def test_holes_are_within_episodes_and_longer_than_a_period_and_a_half() -> None:
    periods = np.array([0, 1, 2.4, 4, 5, 0, 1, 9, 10, 100])  # two episodes, and one of a single step
    found = holes((periods * 1e8).astype(np.int64), np.array([0, 5, 9], np.int64), 10.0)
    assert found.tolist() == [2, 6]
    assert holes(np.zeros(1, np.int64), np.zeros(1, np.int64), 10.0).tolist() == []
