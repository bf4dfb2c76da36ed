"""Streams with clocks of their own on one control clock: integer nanoseconds, the last value holds."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Int64

from vla.datasets.store.clocks import latest_frame

_SECOND = 1_000_000_000
_HOLE_GAPS = 5
"""So many of its usual gaps without a value are a hole in a stream."""
_OUT_OF_ORDER = 5
"""So many values may come late: writers with several threads reorder a few."""
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


def usual_gap(times_ns: Int64[np.ndarray, " n"]) -> int:
    """The time between two values as it mostly is: of values that come in bursts, that between the bursts."""
    gaps = np.diff(times_ns)
    return int(max(np.median(gaps), np.quantile(gaps, 0.75))) if len(gaps) else 0


def holes(times_ns: Int64[np.ndarray, " n"], hz: Fraction) -> Bool[np.ndarray, " n"]:
    """After which values nothing came for more than five usual gaps, and for more than a step of the control clock."""
    longest = max(_HOLE_GAPS * usual_gap(times_ns), _SECOND * hz.denominator // hz.numerator)
    return np.append(np.diff(times_ns) > longest, False)


def in_hole(
    times_ns: Int64[np.ndarray, " n"],
    steps_ns: Int64[np.ndarray, " t"],
    index: Int64[np.ndarray, " t"],
    hz: Fraction,
) -> Bool[np.ndarray, " t"]:
    """Whether the value that holds at a step is the last before a hole, and a new one was due: bool (t,)."""
    late = steps_ns - times_ns[index] >= usual_gap(times_ns)
    return np.asarray(holes(times_ns, hz)[index] & late)


def set_back(times_ns: Int64[np.ndarray, " n"]) -> int | None:
    """Where, in the order of a file, a clock was set back: the place of the first value after it; None for nowhere.

    No value is there twice. Values that are merely stored in another order fill each other's gaps when they are sorted.
    Those of a clock that ran twice through the same time lie twice as dense; those of one that went back further leave
    a hole before the first.
    """
    steps = np.diff(times_ns)
    if not (steps < 0).any():
        return None
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    ahead = np.maximum.accumulate(times_ns)
    for place in np.flatnonzero(steps < 0) + 1:
        low, high = int(times_ns[place]), int(ahead[place - 1])
        parts = (times_ns[:place], times_ns[place:])
        counts = [len(np.unique(part[(part >= low) & (part <= high)])) for part in parts]
        if min(counts) > _OUT_OF_ORDER and high - low < 0.75 * usual * sum(counts):
            return int(place)
    order = np.argsort(times_ns, kind="stable")
    swapped = (np.diff(order) < 0) & (np.diff(times_ns[order]) > _HOLE_GAPS * usual)
    return int(np.argmax(steps < 0)) + 1 if swapped.any() else None
