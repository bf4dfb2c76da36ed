"""Makes an index, and lets it grow with its dataset: only episodes that it does not hold are embedded."""

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from vla.core.config import to_dict
from vla.core.errors import ConfigError, DatasetError
from vla.core.files import locked, make_folder, write_atomic
from vla.core.machine.engines import EngineChoice, choose_engine
from vla.core.machine.processes import run_shares
from vla.core.sealed import digest, seal_folder
from vla.datasets.dataset import Dataset
from vla.datasets.storage.storage import LocalStorage, location_name
from vla.search.embedding import Embedder, EmbedShare, Opener, seen_cameras
from vla.search.index import HEAD, LISTS, NEIGHBOURS, Head, SearchIndex, all_vectors, read_head, require_model
from vla.search.neighbours import load_faiss, make_neighbours
from vla.search.parts import remove_unfinished
from vla.search.settings import FramesConfig

_PART_EPISODES = 200
_LEAST_PARTS = 4
"""Shares that fewer episodes are divided into, so that several workers have some."""
_FRAMES_A_SECOND = 1000.0
"""That one core embeds, about: small towers on frames of 64 pixels."""
_QUERIES = 100
"""Instructions of the dataset with which it is measured how far to look."""


@dataclass(frozen=True, kw_only=True)
class Updating:
    """How the work is done."""

    workers: int = 1
    engine: EngineChoice = "auto"
    on_begin: Callable[[int], None] = lambda episodes: None
    """Hears how many episodes are to be embedded."""
    on_frames: Callable[[int], None] = lambda frames: None
    """Hears of each episode, when it is embedded, how many frames it had."""


def index_folder(dataset: Dataset, model: str, base: Path | None) -> Path:
    """Where the index of a dataset by a model lies: in the dataset's folder, or below ``base`` if that is said."""
    if base is not None:
        return base / f"{location_name(dataset.url)}-{digest(dataset.url.encode())[:8]}" / model[:16]
    if not isinstance(dataset.storage, LocalStorage):
        raise ConfigError(f"search: {dataset.url} is no folder here: say where its index is to lie with --index FOLDER")
    return dataset.storage.root / "search" / model[:16]


def update_index(
    dataset: Dataset,
    folder: Path,
    embedder: Embedder,
    opener: Opener,
    frames: FramesConfig | None = None,
    how: Updating | None = None,
) -> SearchIndex:
    """The index in ``folder`` with all episodes of the dataset in it; ``frames`` are by default those that it has.

    What is finished stays finished: after an interruption the same call embeds what is missing.
    """
    how = how or Updating()
    if not len(dataset.episodes):
        raise DatasetError(f"{dataset.url}: expected at least 1 episode to search, got none; collect or import some")
    make_folder(folder)
    with locked(folder / "lock"):
        head = _head(dataset, folder, embedder, frames)
        remove_unfinished(folder)
        index = SearchIndex.open(folder, embedder.digest)
        known = {uid for part in index.parts for uid in part.uids}
        missing = [n for n, uid in enumerate(dataset.episodes.uids.tolist()) if uid.decode() not in known]
        if missing:
            del index  # its lists, before the workers want memory
            _embed(dataset, folder, opener, head.frames, missing, how)
            index = SearchIndex.open(folder, embedder.digest)
        return _keep_neighbours(index, dataset, embedder)


def _head(dataset: Dataset, folder: Path, embedder: Embedder, frames: FramesConfig | None) -> Head:
    """What the index is of, written where it is new."""
    try:
        head = read_head(folder)
    except FileNotFoundError:
        resolved = _resolved(dataset, frames or FramesConfig(), embedder)
        head = Head(model=embedder.digest, width=embedder.width, frames=resolved)
        write_atomic(folder / HEAD, head.to_bytes())
        return head
    require_model(head, embedder.digest, folder)
    wanted = frames and _resolved(dataset, frames, embedder)
    if wanted and wanted != head.frames:
        raise ConfigError(
            f"search: {folder} holds other frames: expected {to_dict(wanted)}, got {to_dict(head.frames)}; "
            "name another folder with --index, or remove this one"
        )
    seen_cameras(dataset, head.frames, embedder.camera)
    return head


def _resolved(dataset: Dataset, frames: FramesConfig, embedder: Embedder) -> FramesConfig:
    """With its cameras by name."""
    return FramesConfig(every=frames.every, cameras=seen_cameras(dataset, frames, embedder.camera))


def _embed(
    dataset: Dataset, folder: Path, opener: Opener, frames: FramesConfig, missing: list[int], how: Updating
) -> None:
    """Write parts of all that is missing, then raise what failed."""
    how.on_begin(len(missing))
    size = min(_PART_EPISODES, -(-len(missing) // min(_LEAST_PARTS, max(how.workers, 1))))
    shares = [missing[first : first + size] for first in range(0, len(missing), size)]
    frames_in_all = len(frames.cameras) * int(dataset.episode_lengths[missing].sum()) / frames.every
    seconds = frames_in_all / _FRAMES_A_SECOND
    engine = choose_engine(how.engine, shares=len(shares), workers=how.workers, seconds=seconds)
    work = EmbedShare(dataset, folder, opener, frames)
    for future in run_shares(work, shares, workers=how.workers, engine=engine, on_report=how.on_frames):
        future.result()


def _keep_neighbours(index: SearchIndex, dataset: Dataset, embedder: Embedder) -> SearchIndex:
    """Make lists where rows have become many, or too many for those that there are, and keep them on disk."""
    neighbours = index.neighbours
    if neighbours.fits and (not neighbours.probes or index.kept == len(index.parts)):
        return index
    if not neighbours.fits:
        queries = embedder.texts(list(islice(dataset.episodes.column("instruction")[0], _QUERIES)))
        neighbours = make_neighbours(all_vectors(index.parts, index.head.width), index.head.width, queries)
    folder = index.folder / NEIGHBOURS
    earlier = list(folder.glob("*"))
    place = folder / secrets.token_hex(8)
    make_folder(place)
    load_faiss().write_index(neighbours.index, str(place / LISTS))
    parts = {part.name: part.digest for part in index.parts}
    seal_folder(place, {"parts": parts, "probes": neighbours.probes, "made_of": neighbours.made_of})
    for old in earlier:
        shutil.rmtree(old)
    return SearchIndex(index.folder, index.head, index.parts, neighbours, kept=len(index.parts))
