"""Streams with clocks of their own on one control clock: integer nanoseconds, the last value holds."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Int64

from vla.datasets.store.clocks import latest_frame

_SECOND = 1_000_000_000
_SLACK_NS = 1_000_000
"""Recorders round times to milliseconds: a value this much after a step still counts as of that step."""


def rate_hz(times_ns: Int64[np.ndarray, " n"]) -> float | None:
    """The median rate, rounded to whole hertz from 1 Hz on; None where nothing tells it."""
    gaps = np.diff(times_ns)
    gaps = gaps[gaps > 0]
    if not len(gaps):
        return None
    rate = _SECOND / float(np.median(gaps))
    return float(round(rate)) if rate >= 1 else float(f"{rate:.3g}")


def as_fraction(hz: float) -> Fraction:
    """A rate as a ratio of small integers."""
    return Fraction(hz).limit_denominator(1000)


def control_times(first: Sequence[int], last: Sequence[int], hz: Fraction) -> Int64[np.ndarray, " t"]:
    """The steps from when every stream has begun until the first of them has ended; none where they do not overlap."""
    start, span = max(first), min(last) - max(first)
    if span < 0:
        return np.empty(0, np.int64)
    count = ((span + 1) * hz.numerator - 1) // (_SECOND * hz.denominator) + 1
    return start + np.arange(count, dtype=np.int64) * (_SECOND * hz.denominator) // hz.numerator


def held(times_ns: Int64[np.ndarray, " n"], steps_ns: Int64[np.ndarray, " t"], hz: Fraction) -> Int64[np.ndarray, " t"]:
    """Which value holds at each step: the last that is not after it."""
    slack = min(_SLACK_NS, _SECOND * hz.denominator // hz.numerator // 10)
    return np.maximum(latest_frame(times_ns, steps_ns + slack), 0)


def stale(
    times_ns: Int64[np.ndarray, " n"], steps_ns: Int64[np.ndarray, " t"], index: Int64[np.ndarray, " t"]
) -> np.ndarray:
    """Whether the value that holds is older than five of its usual periods, as in a gap of the stream: bool (t,)."""
    gaps = np.diff(times_ns)
    if not len(gaps):
        return np.zeros(len(steps_ns), bool)
    return np.asarray(steps_ns - times_ns[index] > 5 * int(np.median(gaps)))
