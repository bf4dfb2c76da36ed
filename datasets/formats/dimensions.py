"""Dimensions for files that write neither units nor limits.

Limits are the range of the data, widened (`dimension_around`). Where arrays with the names of robosuite, LIBERO and
UMI stand side by side as one vector, units follow from the names and limits from the unit, so that recordings of one
robot in several files get one contract (`dimensions_of`); such a dimension is called ``key.place``, by which an export
finds the keys again (`keys_of`).
"""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from vla.core.contract import Dimension
from vla.core.errors import DatasetError

_KINDS: tuple[tuple[str, str, float], ...] = (
    (r"joint_pos|joint_states?|robot_joint", "rad", 2 * math.pi),
    (r"(.*_)?(eef_|ee_)?quat(_site)?", "1", 1.0),
    (r"eef_rot_axis_angle|ee_ori", "rad", 2 * math.pi),
    (r"gripper_width", "m", 0.2),
    (r"gripper_q?pos|gripper_states", "1", 1.0),  # metres or radians: each gripper is another
    (r"eef_pos|ee_pos", "m", 2.0),
    (r"actions?", "1", 1.0),
)
"""Ends of keys, with their unit and a limit that no arm on a table exceeds."""
_MARGIN = 0.05
"""Of the range seen in the data, added on both sides: limits must hold what the next recording does."""
_NOTICED = 1e-4
_PLACE = re.compile(r"(?P<key>.+)\.(?P<place>\d+)")


def widened(low: float, high: float) -> tuple[float, float]:
    """Limits around data in [low, high]; a number that never moved gets some room too."""
    margin = _MARGIN * (high - low) if high > low else max(_MARGIN * abs(low), 1e-3)
    return low - margin, high + margin


def dimension_around(name: str, low: float, high: float) -> Dimension:
    """A dimension without a unit, around data in [low, high]."""
    if not low <= high:
        low, high = -1.0, 1.0  # nothing finite was seen: reading says so
    below, above = widened(low, high)
    return Dimension(name=name, unit="1", low=below, high=above)


def dimensions_of(
    key: str, low: Sequence[float], high: Sequence[float], units: Mapping[str, str] | None = None
) -> tuple[Dimension, ...]:
    """One dimension for each number of ``key``, whose data lie in [low, high]; ``units`` overrides by key.

    Limits grow in steps of 1, 2, 5, 10, ... until they hold the data.
    """
    unit, base = next(((u, b) for ends, u, b in _KINDS if re.fullmatch(rf"(.*[_/])?({ends})", key)), ("1", 0.0))
    unit = (units or {}).get(key, unit)
    found = []
    for place, (least, most) in enumerate(zip(low, high, strict=True)):
        below, above = max(base, _round_up(-least, base)), max(base, _round_up(most, base))
        if below == above == 0:
            above = 1.0
        found.append(Dimension(name=f"{key}.{place}", unit=unit, low=-below, high=above))
    return tuple(found)


def keys_of(dimensions: Sequence[Dimension]) -> dict[str, slice] | None:
    """The columns of each key, or None where the names are not those of `dimensions_of`."""
    found: dict[str, slice] = {}
    for column, dimension in enumerate(dimensions):
        match = _PLACE.fullmatch(dimension.name)
        if match is None:
            return None
        key, place = match["key"], int(match["place"])
        if place == 0 and key not in found:
            found[key] = slice(column, column + 1)
        elif key in found and found[key] == slice(column - place, column):
            found[key] = slice(column - place, column + 1)
        else:
            return None
    return found


def extremes(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest of each column of (t, w), numbers that are not finite left out; 0 where none is left."""
    finite = np.where(np.isfinite(rows), rows, np.nan).astype(np.float64)
    usable = np.isfinite(finite)
    low = np.where(usable, finite, np.inf).min(axis=0, initial=np.inf)
    high = np.where(usable, finite, -np.inf).max(axis=0, initial=-np.inf)
    return np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)


def as_rows(array: np.ndarray, where: str) -> Float32[np.ndarray, "t w"]:
    """Numbers as float32 (t, w), if they survive it: the one way by which numbers of any format become rows.

    What is not a row of numbers for each step (ragged rows, text, objects), what is not finite, integers that 32 bits
    cannot hold exactly, and floats that they round by more than 1/10000 of what a column moves through, are a
    `DatasetError` that says where.
    """
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        kind = "rows of different lengths, missing values or other objects" if array.dtype == object else array.dtype
        raise DatasetError(f"{where}: expected numbers (steps, width), got {kind} {array.shape}; repair the recording")
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(rows).all():
        step, column = np.argwhere(~np.isfinite(rows))[0]
        raise DatasetError(
            f"{where}: expected finite numbers, got {array[step, column]} at step {step}, column {column}; "
            "leave this episode out or repair the recording"
        )
    bent = _bent(array, rows)
    if bent.any():
        step, column = np.argwhere(bent)[0]
        raise DatasetError(
            f"{where}: {array.dtype} {array[step, column]} at step {step}, column {column} would become "
            f"{rows[step, column]:.1f} in 32 bits; subtract an offset, scale it, or leave the feature out"
        )
    return rows


def _bent(array: np.ndarray, rows: Float32[np.ndarray, "t w"]) -> np.ndarray:
    """Where 32 bits change a number more than its column can bear: bool (t, w)."""
    if array.dtype.kind in "iu" and array.dtype.itemsize > 2:
        with np.errstate(invalid="ignore"):
            return np.asarray(rows.astype(array.dtype) != array)
    if array.dtype.kind != "f" or array.dtype.itemsize <= 4 or not array.size:
        return np.zeros(array.shape, bool)
    moved = array.max(axis=0) - array.min(axis=0)
    # Rounding by less than _NOTICED is of numbers below 2000, whose last digits no sensor gives.
    return np.asarray(np.abs(rows - array) > np.maximum(_NOTICED, 1e-4 * moved))


class Extent:
    """The least and greatest of each of ``width`` numbers over many episodes, whatever is not finite left out."""

    def __init__(self, width: int) -> None:
        self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)

    def add(self, rows: np.ndarray) -> None:
        """Look at (t, width)."""
        finite = np.where(np.isfinite(rows), rows, np.nan).astype(np.float64)
        self.low = np.fmin(self.low, np.fmin.reduce(finite, axis=0, initial=np.inf))
        self.high = np.fmax(self.high, np.fmax.reduce(finite, axis=0, initial=-np.inf))


def _round_up(value: float, base: float) -> float:
    """The least of base, 1, 2, 5, 10, 20, ... (and their decimal fractions) that is not below ``value``."""
    if value <= base or value <= 0:
        return base
    power = 10.0 ** math.floor(math.log10(max(value, 1e-6)))
    return next(step * power for step in (1, 2, 5, 10, 20) if step * power >= value)  # 20: log10 rounds
