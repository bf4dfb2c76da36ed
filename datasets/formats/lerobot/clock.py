"""The times of an episode's rows: frame numbers, where its timestamps say no more, else its timestamps.

Holes between rows stay holes: the steps keep their true times, and what is said of them names the longest.
"""

from fractions import Fraction

import numpy as np
from jaxtyping import Float64, Int64

from vla.core.errors import DatasetError

_SAME_S = 1e-3
"""Timestamps this near to their frame numbers say nothing more than these; written in 32 bits, they round."""
_UNEVEN = 0.1
"""Of the period: how far the usual time between rows may be from it."""
_HOLE = 1.5
"""Periods between two rows: beyond, rows are missing."""


def row_times(
    stamps: np.ndarray | None, steps: int, fps: Fraction, where: str
) -> tuple[Float64[np.ndarray, " t"], Int64[np.ndarray, " t"], list[str]]:
    """Seconds as they are written, nanoseconds from the first row on, and what is to be said of them.

    Timestamps that stand still or go back are a `DatasetError`: the order of such rows is not known.
    """
    numbers = np.arange(steps, dtype=np.int64)
    grid_ns = numbers * (1_000_000_000 * fps.denominator) // fps.numerator
    grid_s, period = numbers / float(fps), 1 / float(fps)
    if stamps is None:
        return grid_s, grid_ns, []
    if stamps.dtype.kind not in "fiu":
        raise DatasetError(f"{where}: timestamp: expected numbers, got {stamps.dtype}; repair the recording")
    seconds = stamps.astype(np.float64)
    if not np.isfinite(seconds).all():
        raise DatasetError(
            f"{where}: timestamp: expected a time at each step, got none at step {int(np.argmin(np.isfinite(seconds)))}"
        )
    gaps = np.diff(seconds)
    if (gaps <= 0).any():
        step = int(np.argmax(gaps <= 0)) + 1
        what = "stands still" if gaps[step - 1] == 0 else "goes back"
        raise DatasetError(
            f"{where}: the timestamp {what} at step {step}: {seconds[step]:.6g} s after {seconds[step - 1]:.6g} s; "
            "rows were written twice, or mixed: leave the episode out, or repair the recording"
        )
    since = seconds - seconds[0]
    notes = []
    if abs(seconds[0]) > period / 2:
        notes.append(f"its timestamps begin at {seconds[0]:.6g} s: its times are counted from there")
    if np.abs(since - grid_s).max() <= _SAME_S:
        return seconds, grid_ns, notes
    holes = gaps > _HOLE * period
    if holes.any():
        worst = int(np.argmax(gaps))
        notes.append(
            f"{int(holes.sum())} holes in time, the longest of {gaps[worst]:.3g} s after step {worst}: rows are missing"
        )
    usual = float(np.median(gaps))
    if abs(usual - period) > _UNEVEN * period:
        notes.append(
            f"its rows are {usual * 1000:.4g} ms apart, fps {float(fps):g} says {period * 1000:.4g} ms: the timestamps "
            "are its times"
        )
    if not notes:
        off = np.abs(since - grid_s).max()
        notes.append(f"its timestamps are up to {off:.3g} s off its frame numbers: they are its times")
    return seconds, np.rint(since * 1e9).astype(np.int64), notes
