"""Frames of a dataset as vectors: who embeds, which frames, and one share of the episodes at a time."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from vla.core.errors import DatasetError
from vla.core.lookup import lookup
from vla.core.media.images import resize_frame
from vla.datasets.dataset import Dataset
from vla.search.parts import ROW, write_part
from vla.search.settings import FramesConfig

_BATCH = 256
"""Frames that are embedded at once."""


@runtime_checkable
class Embedder(Protocol):
    """A model of two towers: pictures and sentences that belong together have vectors that point the same way."""

    @property
    def digest(self) -> str:
        """Of its weights: vectors of two models mean the same only where it is the same."""

    @property
    def width(self) -> int:
        """The length of its vectors."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(y, x) of the pictures that it takes."""

    @property
    def camera(self) -> str:
        """Whose pictures it has learned to tell apart; empty where that is all one to it."""

    def images(self, pictures: UInt8[np.ndarray, "b y x 3"]) -> Float32[np.ndarray, "b e"]:
        """A unit vector for each picture."""

    def texts(self, sentences: Sequence[str]) -> Float32[np.ndarray, "b e"]:
        """A unit vector for each sentence."""


Opener = Callable[[], Embedder]
"""Opens the model; called once in each process that embeds."""


def seen_cameras(dataset: Dataset, config: FramesConfig, learned: str) -> tuple[str, ...]:
    """The cameras whose frames are embedded: what is said, the one ``learned`` from if it is there, all of colour.

    None at all is a `DatasetError`.
    """
    known = {camera.name: camera for camera in dataset.contract.cameras if camera.kind == "rgb"}
    if not known:
        raise DatasetError(f"dataset {dataset.url}: expected a camera that sees colours, and it has none to search")
    for name in config.cameras:
        lookup("camera", name, known)
    return config.cameras or ((learned,) if learned in known else tuple(known))


def fitted(picture: UInt8[np.ndarray, "y x 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "v u 3"]:
    """The middle of a picture that has the proportions of ``size`` (y, x), in that size."""
    height, width = picture.shape[:2]
    share = min(height / size[0], width / size[1])
    y, x = (max(1, round(side * share)) for side in size)
    top, left = (height - y) // 2, (width - x) // 2
    return resize_frame(picture[top : top + y, left : left + x], size)


def chosen_steps(length: int, every: int) -> list[int]:
    """Steps of an episode whose frames are embedded."""
    return sorted({*range(0, length, every), length - 1})


class EmbedShare:
    """Embeds shares of episodes into parts of an index; the model is opened once and kept from share to share.

    ``config`` names its cameras.
    """

    def __init__(self, dataset: Dataset, folder: Path, opener: Opener, config: FramesConfig) -> None:
        self._dataset, self._folder, self._opener, self._config = dataset, folder, opener, config
        self._cameras = config.cameras
        self._embedder: Embedder | None = None

    def __call__(self, episodes: Sequence[int], report: Callable[[int], None]) -> str:
        """Write one part; ``report`` hears of each episode how many frames it had. The name of the part."""
        if self._embedder is None:
            self._embedder = self._opener()
        vectors, rows = [], []
        for position, episode in enumerate(episodes):
            one = self._rows(position, episode)
            vectors.append(self._embed(self._embedder, int(self._dataset.episode_starts[episode]), one))
            rows.append(one)
            report(len(one))
        uids = [uid.decode() for uid in self._dataset.episodes.uids[list(episodes)].tolist()]
        return write_part(self._folder, np.concatenate(vectors), np.concatenate(rows), uids, self._cameras)

    def _rows(self, position: int, episode: int) -> np.ndarray:
        """What is written of the frames of one episode beside their vectors."""
        dataset = self._dataset
        steps = chosen_steps(int(dataset.episode_lengths[episode]), self._config.every)
        rows = np.zeros(len(steps) * len(self._cameras), ROW)
        rows["episode"] = position
        rows["camera"] = np.repeat(np.arange(len(self._cameras)), len(steps))
        rows["step"] = np.tile(steps, len(self._cameras))
        rows["time_ns"] = dataset.time_ns[dataset.episode_starts[episode] + rows["step"]]
        return rows

    def _embed(self, embedder: Embedder, start: int, rows: np.ndarray) -> Float32[np.ndarray, "b e"]:
        found = []
        for number, name in enumerate(self._cameras):
            steps = start + rows["step"][rows["camera"] == number].astype(np.int64)
            camera = next(camera for camera in self._dataset.contract.cameras if camera.name == name)
            for first in range(0, len(steps), _BATCH):
                some = steps[first : first + _BATCH]
                frames = np.empty((len(some), *camera.shape), np.uint8)
                self._dataset.read_frames(name, some, frames)
                if camera.shape[:2] != embedder.image_size:
                    frames = np.stack([fitted(frame, embedder.image_size) for frame in frames])
                found.append(embedder.images(frames))
        return np.concatenate(found)
