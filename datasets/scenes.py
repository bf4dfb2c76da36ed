"""Which scenes episodes show: the seeds of each task, so that an evaluation can say whether it asks for new ones."""

from collections.abc import Iterable, Sequence

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
