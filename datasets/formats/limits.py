"""Limits of numbers that come without: the range of the data, widened."""

from vla.core.contract import Dimension

_MARGIN = 0.05
"""Of the range seen in the data, added on both sides: limits must hold what the next recording does."""


def dimension_around(name: str, low: float, high: float) -> Dimension:
    """A dimension without a unit, around data in [low, high]; a number that never moved gets some room too."""
    if not low <= high:
        low, high = -1.0, 1.0  # nothing finite was seen: reading says so
    margin = _MARGIN * (high - low) if high > low else max(_MARGIN * abs(low), 1e-3)
    return Dimension(name=name, unit="1", low=low - margin, high=high + margin)
