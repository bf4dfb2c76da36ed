"""Which episodes of a dataset a checkpoint has not learned from."""

from pathlib import Path

import numpy as np

from vla.core.config import from_dict
from vla.core.errors import CheckpointError
from vla.datasets.dataset import Dataset
from vla.datasets.storage.storage import open_storage
from vla.models.checkpoint import open_checkpoint, read_blueprint, read_object
from vla.training.recipe import TrainConfig
from vla.training.samples import Episodes, split_episodes


def held_out(checkpoint: Path, dataset: Dataset) -> Episodes:
    """Numbers of the episodes that its run held out, where ``dataset`` is the one that it learned from.

    Of another dataset, those of scenes that it was not trained on.
    """
    origin = read_object(open_checkpoint(checkpoint), "provenance.json")
    if not isinstance(origin.get("recipe"), dict):
        raise CheckpointError(
            f"{checkpoint}/provenance.json names no recipe, so nobody knows which episodes it has learned from; "
            "expected a checkpoint as vla train writes it"
        )
    recipe = from_dict(TrainConfig, origin["recipe"], where=f"{checkpoint}/provenance.json")
    data = recipe.data
    if data.path and open_storage(data.path).url == dataset.url:
        theirs = Dataset.open(data.path, read_blueprint(checkpoint).datasets[0].manifest)
        _, kept = split_episodes(theirs, np.flatnonzero(data.select.mask(theirs.episodes)), data, recipe.seed)
        return np.flatnonzero(np.isin(dataset.episodes.uids, theirs.episodes.uids[kept]))
    tasks, codes = dataset.episodes.column("task")
    seen = np.zeros(len(dataset.episodes), bool)
    for task, ranges in origin.get("scenes", {}).items():
        own = np.array([tasks[code] == task for code in codes], bool)
        for first, last in ranges:
            seen |= own & (dataset.episodes.seeds >= first) & (dataset.episodes.seeds <= last)
    return np.flatnonzero(~seen)
