"""Statistics of a low-dimensional array: exact, because it lies in RAM."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from vla.core.errors import DatasetError

_CONSTANT = 1e-6
"""A dimension whose range is below this, relative to its size if that is above 1, carries nothing but rounding."""

_VECTORS = ("mean", "std", "min", "max", "q01", "q99")


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """One number for each dimension; ``std`` is that of the population, quantiles interpolate linearly."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]
    q01: tuple[float, ...]
    q99: tuple[float, ...]
    count: int
    """Rows."""
    constant: tuple[bool, ...]
    """Dimensions that must not be divided by their spread."""

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object that `from_json` reads back, bit for bit."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @staticmethod
    def from_json(value: Mapping[str, Any], *, where: str) -> "Statistics":
        """Read what `to_json` wrote; ``where`` names the source in errors."""
        try:
            vectors = {name: tuple(float(number) for number in value[name]) for name in _VECTORS}
            constant = tuple(bool(flag) for flag in value["constant"])
            count = int(value["count"])
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{where}: the statistics are damaged ({error!r}); compute them again") from None
        lengths = {name: len(vector) for name, vector in vectors.items()}
        if set(lengths.values()) != {len(constant)}:
            raise DatasetError(f"{where}: the statistics have different lengths {lengths}; compute them again")
        return Statistics(**vectors, constant=constant, count=count)


def compute_statistics(
    rows: Float[np.ndarray, "t d"], valid: Bool[np.ndarray, " t"] | None = None, *, what: str = "array"
) -> Statistics:
    """The statistics of the rows where ``valid``; no rows or numbers that are not finite are a `DatasetError`."""
    chosen = (rows if valid is None else rows[valid]).astype(np.float64)
    if len(chosen) == 0:
        raise DatasetError(f"{what}: expected at least 1 valid row, got none of {len(rows)}; check the selection")
    if not np.isfinite(chosen).all():
        column = int(np.flatnonzero(~np.isfinite(chosen).all(axis=0))[0])
        raise DatasetError(f"{what}: dimension {column} holds numbers that are not finite; validate the dataset")
    low, high = chosen.min(axis=0), chosen.max(axis=0)
    q01, q99 = np.quantile(chosen, [0.01, 0.99], axis=0)
    size = np.maximum(1.0, np.maximum(np.abs(low), np.abs(high)))
    vectors = {"mean": chosen.mean(axis=0), "std": chosen.std(axis=0), "min": low, "max": high, "q01": q01, "q99": q99}
    return Statistics(
        **{name: tuple(vector.tolist()) for name, vector in vectors.items()},
        count=len(chosen),
        constant=tuple((high - low <= _CONSTANT * size).tolist()),
    )
