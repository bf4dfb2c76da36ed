"""Which scenes episodes show, so that an evaluation can ask for new ones: the seeds of each task, and the settings."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from vla.datasets.dataset import Dataset

Ranges = list[tuple[int, int]]
"""First and last of each run of seeds, in rising order."""


def scenes(parts: Iterable[tuple[Dataset, Int64[np.ndarray, " _"]]]) -> dict[str, Ranges]:
    """The seeds of each task among the chosen episodes of some datasets."""
    found: dict[str, list[np.ndarray]] = {}
    for dataset, chosen in parts:
        tasks, codes = dataset.episodes.column("task")
        mine, seeds = np.asarray(codes)[chosen], dataset.episodes.seeds[chosen]
        for code in np.unique(mine):
            found.setdefault(tasks[code], []).append(seeds[mine == code])
    return {task: ranges(np.concatenate(seeds).tolist()) for task, seeds in sorted(found.items())}


def ranges(numbers: Sequence[int]) -> Ranges:
    """Whole numbers as runs."""
    runs: Ranges = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    return runs


def recorded_settings(dataset: Dataset, episode: int) -> dict[str, Any]:
    """The settings of the environment, as the provenance of the episode's segment names them; empty if it does not."""
    origin = dataset.provenance(int(dataset.episodes.segments[episode]))
    while "packed_from" in origin:
        origin = next(iter(origin["packed_from"].values()))
    settings = origin.get("settings", {})
    return dict(settings) if isinstance(settings, dict) else {}
