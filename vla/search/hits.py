"""What a query finds in datasets: frames or episodes, with what is said of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from vla.core.errors import UnknownNameError
from vla.core.lookup import lookup
from vla.datasets.dataset import Dataset
from vla.search.index import SearchIndex
from vla.search.settings import Wanted

Vector = Float32[np.ndarray, " e"]


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One frame that was found, or the best one of an episode."""

    score: float
    """Cosine of its vector with that of the query."""
    dataset: Dataset
    episode: int
    """By its number in the dataset."""
    camera: str
    step: int
    time_s: float
    """Since the episode began."""

    def facts(self) -> dict[str, object]:
        """All that is said of it, as JSON."""
        record = self.dataset.episodes[self.episode]
        return {
            "score": round(self.score, 4),
            "dataset": self.dataset.url,
            "episode": self.episode,
            "uid": record.uid,
            "step": self.step,
            "camera": self.camera,
            "time_s": round(self.time_s, 3),
            "task": record.task,
            "instruction": record.instruction,
            "success": record.success,
            "robot": self.dataset.contract.robot,
        }


@dataclass(frozen=True, kw_only=True)
class Searched:
    """A dataset with its index."""

    dataset: Dataset
    index: SearchIndex


def choose(datasets: Sequence[Dataset], wanted: Wanted) -> list[tuple[Dataset, Bool[np.ndarray, " episodes"]]]:
    """Datasets that hits may be of, each with its episodes that fit; a name that none of them knows is an error."""
    robots = {dataset.contract.robot: dataset for dataset in datasets}
    for name in wanted.robots:
        lookup("robot", name, robots)
    chosen = [dataset for dataset in datasets if not wanted.robots or dataset.contract.robot in wanted.robots]
    found, unknown = [], []
    for dataset in chosen:
        try:
            found.append((dataset, wanted.select.mask(dataset.episodes)))
        except UnknownNameError as error:  # a task or a split that only another of them has
            unknown.append(error)
    if unknown and not found:
        raise unknown[0]
    return found


def find(query: Vector, among: Sequence[Searched], wanted: Wanted) -> list[Hit]:
    """The best hits in several datasets together, best first: as many as are wanted, if there are so many."""
    indexes = {id(one.dataset): one.index for one in among}
    for name in wanted.cameras:
        lookup("camera", name, {camera: index for index in indexes.values() for camera in index.cameras})
    chosen = choose([one.dataset for one in among], wanted)
    hits = [hit for dataset, fits in chosen for hit in _find(query, dataset, indexes[id(dataset)], fits, wanted)]
    return sorted(hits, key=lambda hit: -hit.score)[: wanted.hits]


def _find(
    query: Vector, dataset: Dataset, index: SearchIndex, fits: Bool[np.ndarray, " episodes"], wanted: Wanted
) -> list[Hit]:
    """The best of one dataset, among its episodes that fit."""
    episodes = index.episodes(dataset)
    allowed = (episodes >= 0) & fits[episodes]
    if wanted.cameras:
        allowed &= index.of_cameras(wanted.cameras)
    if wanted.by == "frame":
        scores, rows = index.nearest(query, wanted.hits, allowed)
    else:
        scores, rows = _best_of_episodes(query, index, wanted.hits, allowed, episodes)
    return [_hit(dataset, index, int(episodes[r]), int(r), float(s)) for s, r in zip(scores, rows, strict=True)]


def _best_of_episodes(
    query: Vector,
    index: SearchIndex,
    count: int,
    allowed: Bool[np.ndarray, " n"],
    episodes: Int64[np.ndarray, " n"],
) -> tuple[Float32[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """The best frame of each of the best episodes: more frames are fetched until there are enough episodes."""
    fetched, left = 8 * count, int(allowed.sum())
    while True:
        scores, rows = index.nearest(query, fetched, allowed)
        _, first = np.unique(episodes[rows], return_index=True)
        if len(first) >= count or fetched >= left:
            best = np.sort(first)[:count]
            return scores[best], rows[best]
        fetched *= 8


def _hit(dataset: Dataset, index: SearchIndex, episode: int, row: int, score: float) -> Hit:
    place = index.place(row)
    began_ns = int(dataset.time_ns[dataset.episode_starts[episode]])
    time_s = (place.time_ns - began_ns) / 1e9
    return Hit(score=score, dataset=dataset, episode=episode, camera=place.camera, step=place.step, time_s=time_s)
