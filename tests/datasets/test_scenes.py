"""Seeds of tasks as ranges, of the chosen episodes alone."""

from pathlib import Path

import numpy as np

from vla.datasets.dataset import Dataset
from vla.datasets.scenes import ranges, scenes


def test_runs_of_numbers() -> None:
    assert ranges([7, 3, 4, 5, 5, 9, 8]) == [(3, 5), (7, 9)]
    assert ranges([]) == []


def test_scenes_are_told_by_task(dataset: Path) -> None:
    opened = Dataset.open(dataset)
    seeds = opened.episodes.seeds
    every = np.arange(len(seeds))
    assert scenes([(opened, every)]) == {"tabletop/place": ranges(seeds.tolist())}
    assert scenes([(opened, every[:2]), (opened, every[4:5])]) == {
        "tabletop/place": ranges(seeds[[0, 1, 4]].tolist()),
    }
