"""Statistics of the columns of an array, exact, and the scaling that follows from them.

A dimension that hardly ever moves has quantiles that lie close together: divided by their distance, a rare spike
becomes a number in the thousands and takes the loss with it (openpi issue 814). So each dimension is judged, once,
when its statistics are computed, and the judgement travels with them.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Float64

from vla.core.errors import DatasetError
from vla.core.sealed import brief

Kind = Literal["ok", "constant", "narrow"]

_CONSTANT = 1e-6
"""A dimension whose range is below this, relative to its size if that is above 1, carries nothing but rounding."""
_NARROW = 0.05
"""Below this share of the range between the quantiles, values beyond ±39 would come out of scaling by quantiles."""
_FINE = 1e-4
"""Quantiles closer than this, relative to the size of the values, are less than 1,700 steps of float32 apart."""
_CHUNK = 1 << 20

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
    kind: tuple[Kind, ...]
    """``constant``: its range is rounding; ``narrow``: its quantiles are too close to scale by; else ``ok``."""
    count: int
    """Values of each dimension."""

    @staticmethod
    def between(low: Sequence[float], high: Sequence[float]) -> "Statistics":
        """A scale that maps ``low`` to -1 and ``high`` to 1, where nothing was measured."""
        middle = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
        std = tuple((b - a) / 12**0.5 for a, b in zip(low, high, strict=True))  # of a uniform distribution
        kind: tuple[Kind, ...] = tuple("ok" for _ in middle)
        ends = {"min": tuple(low), "max": tuple(high), "q01": tuple(low), "q99": tuple(high)}
        return Statistics(mean=middle, std=std, **ends, kind=kind, count=0)

    def centre(self) -> Float64[np.ndarray, " d"]:
        """What becomes 0: the middle between the quantiles, or of the whole range where it is not ``ok``."""
        low, high = self._limits()
        return np.asarray((low + high) / 2)

    def spread(self) -> Float64[np.ndarray, " d"]:
        """What becomes 2 long: between the quantiles; the whole range if ``narrow``, and 1 or more if ``constant``."""
        low, high = self._limits()
        constant = np.array([kind == "constant" for kind in self.kind], bool)
        return np.where(constant, np.maximum(1.0, high - low), high - low)

    def normalise(self, x: Float[Any, "*b d"]) -> Float[Any, "*b d"]:
        """Scale ``q01`` to -1 and ``q99`` to 1 without clipping: of what was measured, nothing leaves [-39, 39].

        ``narrow`` dimensions fill [-1, 1] with all they ever were; ``constant`` ones become 0, give or take rounding.
        """
        centre, half = self._like(x, self.centre()), self._like(x, self.spread() / 2)
        return _cast((x - centre) / half, x)

    def denormalise(self, x: Float[Any, "*b d"]) -> Float[Any, "*b d"]:
        """The mirror of `normalise`."""
        centre, half = self._like(x, self.centre()), self._like(x, self.spread() / 2)
        return _cast(x * half + centre, x)

    def problems(self, names: Sequence[str]) -> tuple[str, ...]:
        """One sentence for each dimension that is not ``ok``; ``names`` are those of all dimensions."""
        if len(names) != len(self.kind):
            raise ValueError(f"names: expected {len(self.kind)}, got {len(names)}")
        return tuple(self._problem(i, name) for i, name in enumerate(names) if self.kind[i] != "ok")

    def _problem(self, i: int, name: str) -> str:
        low, high, q01, q99 = (getattr(self, key)[i] for key in ("min", "max", "q01", "q99"))
        if self.kind[i] == "constant":
            return f"{name} never changes: it is {self.mean[i]:.6g} in all {self.count:,} values, and tells nothing"
        if q99 - q01 < _NARROW * (high - low):
            return (
                f"{name} hardly ever moves: 98 % of its values lie in [{q01:.6g}, {q99:.6g}], all in "
                f"[{low:.6g}, {high:.6g}]. It is scaled by the latter; look for spikes"
            )
        return (
            f"{name} moves by {high - low:.3g} around {self.centre()[i]:.6g}: float32 resolves little of that. "
            "It is scaled by its whole range; record it from another origin"
        )

    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        ok = np.array([kind == "ok" for kind in self.kind], bool)
        return np.where(ok, self.q01, self.min), np.where(ok, self.q99, self.max)

    def _like(self, x: Any, values: np.ndarray) -> Any:
        """``values`` in float64 for arithmetic with ``x``, which may be torch's: 1e6 + 0.03 is no number of float32."""
        if x.shape[-1:] != values.shape:
            raise ValueError(f"expected {len(values)} dimensions, got an array of shape {tuple(x.shape)}")
        return x.double().new_tensor(values.tolist()) if hasattr(x, "new_tensor") else values

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object that `from_json` reads back, bit for bit."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @staticmethod
    def from_json(value: Mapping[str, Any], *, where: str) -> "Statistics":
        """Read what `to_json` wrote; ``where`` names the source in errors."""
        try:
            vectors = {name: tuple(float(number) for number in value[name]) for name in _VECTORS}
            kind = tuple(value["kind"])
            count = int(value["count"])
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{where}: the statistics are damaged ({brief(error)}); compute them again") from None
        lengths = {name: len(vector) for name, vector in vectors.items()}
        if set(lengths.values()) != {len(kind)}:
            raise DatasetError(f"{where}: the statistics have different lengths {lengths}; compute them again")
        if not all(map(math.isfinite, sum(vectors.values(), ()))) or not set(kind) <= set(get_args(Kind)):
            raise DatasetError(
                f"{where}: the statistics are damaged (not finite, or a kind of {kind}); compute them again"
            )
        return Statistics(**vectors, kind=kind, count=count)


def compute_statistics(
    rows: Float[np.ndarray, "t d"], valid: Bool[np.ndarray, " t"] | None = None, *, what: str = "array"
) -> Statistics:
    """The statistics of the rows where ``valid``; no rows or numbers that are not finite are a `DatasetError`."""
    count = len(rows) if valid is None else int(np.count_nonzero(valid))
    if count == 0:
        raise DatasetError(f"{what}: expected at least 1 valid row, got none of {len(rows)}; check the selection")
    columns = (rows[:, i].copy() if valid is None else rows[valid, i] for i in range(rows.shape[1]))
    return column_statistics(columns, count, what=what)


def column_statistics(columns: Iterable[Float[np.ndarray, " t"]], count: int, *, what: str) -> Statistics:
    """The statistics of columns of ``count`` values, which come one at a time and are reordered."""
    found: dict[str, list[float]] = {name: [] for name in _VECTORS}
    kinds: list[Kind] = []
    for number, column in enumerate(columns):
        assert len(column) == count, (len(column), count)
        low, high = float(column.min()), float(column.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise DatasetError(f"{what}: dimension {number} holds numbers that are not finite; validate the dataset")
        mean = min(max(float(column.mean(dtype=np.float64)), low), high)
        q01, q99 = _quantiles(column, (0.01, 0.99))
        for name, value in zip(_VECTORS, (mean, _std(column, mean), low, high, q01, q99), strict=True):
            found[name].append(value)
        kinds.append(_judge(low, high, q01, q99))
        del column  # before the next one is made
    return Statistics(**{name: tuple(values) for name, values in found.items()}, kind=tuple(kinds), count=count)


def _quantiles(column: np.ndarray, shares: Sequence[float]) -> list[float]:
    """As `numpy.quantile`, in float64, with no copy."""
    places = [share * (len(column) - 1) for share in shares]
    below = [int(place) for place in places]
    above = [min(i + 1, len(column) - 1) for i in below]
    column.partition(sorted({*below, *above}))
    found = []
    for place, i, j in zip(places, below, above, strict=True):
        a, b, t = float(column[i]), float(column[j]), place - i
        found.append(a + (b - a) * t if t < 0.5 else b - (b - a) * (1 - t))
    return found


def _std(column: np.ndarray, mean: float) -> float:
    total = 0.0
    for first in range(0, len(column), _CHUNK):
        total += float(np.square(column[first : first + _CHUNK].astype(np.float64) - mean).sum())
    return math.sqrt(total / len(column))


def _judge(low: float, high: float, q01: float, q99: float) -> Kind:
    size = max(abs(low), abs(high))
    if high - low <= _CONSTANT * max(1.0, size):
        return "constant"
    return "narrow" if q99 - q01 < max(_NARROW * (high - low), _FINE * size) else "ok"


def _cast(result: Any, like: Any) -> Any:
    """Back to the dtype of ``like``."""
    return result.to(like.dtype) if hasattr(like, "new_tensor") else result.astype(like.dtype)
