"""The least and greatest number of each feature of a LeRobot dataset, from the statistics that it keeps."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from vla.datasets.formats.lerobot.tables import read_json, read_lines

Limits = dict[str, tuple[list[float], list[float]]]
"""For each feature the least and the greatest of each of its numbers."""


def limits_v21(root: Path) -> Limits:
    """Of all episodes together, from the statistics of each; empty where there are none."""
    path = root / "meta/episodes_stats.jsonl"
    if not path.is_file():
        return {}
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for row in read_lines(path, ("stats",)):
        for key, values in row["stats"].items():
            found[key] += _extremes(values)
    return {
        key: (np.min([low for low, _ in pairs], axis=0).tolist(), np.max([high for _, high in pairs], axis=0).tolist())
        for key, pairs in found.items()
        if len({low.shape for low, _ in pairs}) == 1
    }


def limits_v30(root: Path) -> Limits:
    """From the statistics of the whole; empty where there are none."""
    path = root / "meta/stats.json"
    if not path.is_file():
        return {}
    values = read_json(path)
    return {key: (low.tolist(), high.tolist()) for key in values for low, high in _extremes(values[key])}


def _extremes(values: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """The least and greatest of a feature as flat arrays; nothing where they are missing or not finite."""
    try:
        low, high = (np.asarray(values[key], np.float64).ravel() for key in ("min", "max"))
    except (KeyError, TypeError, ValueError):
        return []
    usable = low.shape == high.shape and bool(np.isfinite(low).all() and np.isfinite(high).all())
    return [(low, high)] if usable else []
