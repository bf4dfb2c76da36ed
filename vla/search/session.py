"""Several datasets opened for searching, each index first brought up to date."""

from collections.abc import Sequence
from pathlib import Path

from vla.core.errors import SearchError
from vla.datasets.dataset import Dataset
from vla.search.embedding import Embedder, Opener
from vla.search.hits import Searched
from vla.search.index import SearchIndex
from vla.search.settings import FramesConfig
from vla.search.update import Updating, index_folder, update_index


def open_searched(
    datasets: Sequence[Dataset],
    embedder: Embedder,
    opener: Opener,
    *,
    base: Path | None = None,
    frames: FramesConfig | None = None,
    how: Updating | None = None,
    update: bool = True,
) -> list[Searched]:
    """Each dataset with its index; without ``update`` as it lies there, which may lack what came later.

    ``base`` is a folder for the indexes; by default each lies in the folder of its dataset.
    """
    found = []
    for dataset in datasets:
        folder = index_folder(dataset, embedder.digest, base)
        if update:
            index = update_index(dataset, folder, embedder, opener, frames, how)
        else:
            try:
                index = SearchIndex.open(folder, embedder.digest)
            except FileNotFoundError:
                raise SearchError(f"{folder}: there is no index of {dataset.url}; search without --no-update") from None
        found.append(Searched(dataset=dataset, index=index))
    return found
