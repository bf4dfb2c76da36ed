"""Signals made of what comes: what a model is to know of a moment, said by what happened after it.

All are training targets and nothing else: an auxiliary reads what the model knows of the present, and is told the
truth where it learns. What is not known, since nothing of the kind comes any more, is NaN and teaches nothing.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int64

from vla.collection.labels.events import Coming
from vla.collection.labels.projection import Projection
from vla.collection.labels.tool import Places
from vla.core.contract import Dimension
from vla.datasets.dataset import Dataset

EVENT, PIXEL, TRACE = "gripper_event", "gripper_pixel", "tool_trace"
"""Their names: where and when the gripper closes and opens next, where in the picture, and the tool's coming path."""

Signals = Mapping[str, tuple[tuple[Dimension, ...], Float32[np.ndarray, "t g"]]]
"""By name: what each number is, and one row for each step of the dataset."""


def make_signals(
    dataset: Dataset,
    places: Places,
    coming: Coming,
    projections: Mapping[str, Projection],
    *,
    within_s: float,
    ahead: Sequence[int],
) -> Signals:
    """All three; those of pictures for the cameras that have a projection."""
    made = {EVENT: _event(dataset, places, coming, within_s)}
    things = {"close": coming.closing, "open": coming.opening}
    made[PIXEL] = _seen(places, projections, things)
    last = np.repeat(dataset.episode_starts + dataset.episode_lengths - 1, dataset.episode_lengths)
    steps = np.arange(len(dataset))
    made[TRACE] = _seen(places, projections, {f"ahead{n}": np.minimum(steps + n, last) for n in ahead})
    return made


def _event(
    dataset: Dataset, places: Places, coming: Coming, within_s: float
) -> tuple[tuple[Dimension, ...], Float32[np.ndarray, "t g"]]:
    """Where the tool closes and where it opens next, whether the nearer one is an opening, and in how long it comes."""
    dimensions, columns = [], []
    for name, rows in (("close", coming.closing), ("open", coming.opening)):
        dimensions += [
            Dimension(name=f"{name}_{d.name}", unit=d.unit, low=d.low, high=d.high) for d in places.dimensions
        ]
        columns.append(_there(places.rows, rows))
    nearest = coming.next
    opens = np.where(nearest < 0, np.nan, nearest == coming.opening)
    wait_s = np.where(nearest < 0, np.nan, (dataset.time_ns[nearest] - dataset.time_ns) * 1e-9)
    wait_s = np.where(wait_s <= within_s, wait_s, np.nan)
    dimensions += [
        Dimension(name="next_opens", unit="1", low=0.0, high=1.0),
        Dimension(name="next_in", unit="s", low=0.0, high=within_s),
    ]
    columns += [opens[:, None], wait_s[:, None]]
    return tuple(dimensions), np.concatenate(columns, axis=1).astype(np.float32)


def _seen(
    places: Places, projections: Mapping[str, Projection], things: Mapping[str, Int64[np.ndarray, " t"]]
) -> tuple[tuple[Dimension, ...], Float32[np.ndarray, "t g"]]:
    """Where each camera sees the tool as it will be at given steps."""
    dimensions, columns = [], []
    for camera, projection in projections.items():
        points = projection(places.rows)
        for thing, steps in things.items():
            names = [f"{camera}.{thing}.{axis}" for axis in ("row", "column")]
            dimensions += [Dimension(name=name, unit="image", low=-1.0, high=1.0) for name in names]
            columns.append(_there(points, steps))
    return tuple(dimensions), np.concatenate(columns, axis=1).astype(np.float32)


def _there(rows: Float64[np.ndarray, "t k"], steps: Int64[np.ndarray, " t"]) -> Float64[np.ndarray, "t k"]:
    """The rows of these steps, NaN for -1."""
    return np.where(steps[:, None] < 0, np.nan, rows[steps])
