"""The statistics that LeRobot keeps of each feature, for one episode and for all: exact, with linear quantiles."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_FEWEST, _MOST, _POWER = 100, 10_000, 0.75
_LARGE, _SMALL = 300, 150
"""Pictures with a side of `_LARGE` pixels or more are thinned out to about `_SMALL`."""


def vector_statistics(rows: np.ndarray) -> dict[str, list[Any]]:
    """Of the columns of (t, d), or of one column (t,); each a list of d numbers, the count a list of one."""
    values = (rows if rows.ndim == 2 else rows[:, None]).astype(np.float64)
    low, high = values.min(axis=0), values.max(axis=0)
    if rows.dtype.kind == "i":
        low, high = low.astype(np.int64), high.astype(np.int64)
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {
        "min": low.tolist(),
        "max": high.tolist(),
        "mean": values.mean(axis=0).tolist(),
        "std": values.std(axis=0).tolist(),
        "count": [len(values)],
        **{name: quantiles[place].tolist() for place, name in enumerate(QUANTILES)},
    }


@dataclass(frozen=True, kw_only=True)
class PixelCounts:
    """How often each value occurs in each channel of sampled pictures: sums of these are statistics of all."""

    counts: Int64[np.ndarray, "3 256"] = field(default_factory=lambda: np.zeros((3, 256), np.int64))
    frames: int = 0

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        return PixelCounts(counts=self.counts + other.counts, frames=self.frames + other.frames)

    def statistics(self) -> dict[str, list[Any]]:
        """Of values from 0 to 1, each (3, 1, 1)."""
        total = self.counts.sum(axis=1)  # (3,)
        values = np.arange(256) / 255.0
        seen = self.counts > 0
        mean = self.counts @ values / total
        variance = (self.counts * (values - mean[:, None]) ** 2).sum(axis=1) / total
        result: dict[str, np.ndarray] = {
            "min": values[seen.argmax(axis=1)],
            "max": values[255 - seen[:, ::-1].argmax(axis=1)],
            "mean": mean,
            "std": np.sqrt(variance),
        }
        up_to = self.counts.cumsum(axis=1)
        for name, share in QUANTILES.items():
            result[name] = np.array(
                [_quantile(channel, share * (n - 1)) / 255.0 for channel, n in zip(up_to, total, strict=True)]
            )
        lists: dict[str, list[Any]] = {name: array[:, None, None].tolist() for name, array in result.items()}
        return {**lists, "count": [self.frames]}


def count_pixels(frames: UInt8[np.ndarray, "t y x 3"]) -> PixelCounts:
    """Of evenly spread frames: all of a short episode, fewer of a long one."""
    steps, height, width = frames.shape[:3]
    some = max(min(_FEWEST, steps), min(int(steps**_POWER), _MOST))
    chosen = np.unique(np.round(np.linspace(0, steps - 1, some)).astype(np.int64))
    stride = max(1, max(height, width) // _SMALL) if max(height, width) >= _LARGE else 1
    pixels = frames[chosen][:, ::stride, ::stride]
    counts = np.stack([np.bincount(pixels[..., channel].ravel(), minlength=256) for channel in range(3)])
    return PixelCounts(counts=counts.astype(np.int64), frames=len(chosen))


def _quantile(up_to: Int64[np.ndarray, " 256"], position: float) -> float:
    """The value at a position in the sorted pixels, between two of them by a straight line."""
    below = int(np.searchsorted(up_to, np.floor(position), side="right"))
    above = int(np.searchsorted(up_to, np.ceil(position), side="right"))
    return below + (above - below) * float(position - np.floor(position))


def flatten(statistics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """As columns ``stats/feature/statistic`` of the table of episodes."""
    return {
        f"stats/{key}/{name}": value for key, of_feature in statistics.items() for name, value in of_feature.items()
    }
