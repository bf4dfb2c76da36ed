"""Very many real vectors: of the frames of a dataset, and of crops of them, in files that a second run reads."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32, UInt8

from vla.bench.measure import Note
from vla.core.errors import ConfigError
from vla.core.files import make_folder
from vla.core.media.images import resize_frame
from vla.datasets.dataset import Dataset
from vla.search.embedding import Embedder

_BATCH = 250
_LEAST = 0.5
"""Of a frame's side that a crop has."""
_EACH = 100_000
"""Vectors in one file."""


def some_vectors(
    dataset: Dataset, embedder: Embedder, count: int, folder: Path, seed: int, note: Note
) -> Float16[np.ndarray, "n e"]:
    """Unit vectors, first of all frames and then of crops, no two of the same; what ``folder`` has is read."""
    make_folder(folder)
    found = []
    for first in range(0, count, _EACH):
        path = folder / f"{embedder.digest[:16]}-{len(dataset)}-{seed}-{first}.npy"
        if not path.exists():
            note(f"embedding pictures {first:,} to {first + _EACH:,}")
            parts = [embedder.images(some) for some in _pictures(dataset, first, first + _EACH, seed)]
            temporary = path.with_suffix(".part.npy")
            np.save(temporary, np.concatenate(parts).astype(np.float16), allow_pickle=False)
            temporary.rename(path)
        found.append(np.load(path, mmap_mode="r", allow_pickle=False))
    return np.concatenate(found)[:count]


def some_crops(dataset: Dataset, embedder: Embedder, count: int, seed: int) -> Float32[np.ndarray, "b e"]:
    """Of crops that nothing else is of."""
    begin = 2**40  # past all that is ever searched
    return np.concatenate([embedder.images(some) for some in _pictures(dataset, begin, begin + count, seed)])


def _pictures(dataset: Dataset, first: int, end: int, seed: int) -> Iterator[UInt8[np.ndarray, "b y x 3"]]:
    """The pictures of these numbers: a frame itself while there are any, then a crop by a generator of its own."""
    cameras = [camera for camera in dataset.contract.cameras if camera.kind == "rgb"]
    if not cameras or not len(dataset):
        raise ConfigError(f"bench search: {dataset.url}: expected frames of a camera that sees colours, got none")
    frames = len(cameras) * len(dataset)
    for begin in range(first, end, _BATCH):
        rng = np.random.default_rng([seed, begin])
        size = min(_BATCH, end - begin)
        whole = max(0, min(size, frames - begin))
        numbers = np.concatenate([begin + np.arange(whole), rng.integers(0, frames, size - whole)])
        shape = cameras[0].shape
        pictures = np.empty((size, *shape), np.uint8)
        for number, camera in enumerate(cameras):
            mine = np.flatnonzero(numbers // len(dataset) == number)
            seen = np.empty((len(mine), *camera.shape), np.uint8)
            dataset.read_frames(camera.name, numbers[mine] % len(dataset), seen)
            for row, frame in zip(mine, seen, strict=True):
                pictures[row] = resize_frame(frame if row < whole else _crop(frame, rng), shape[:2])
        yield pictures


def _crop(frame: UInt8[np.ndarray, "y x 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "v u 3"]:
    """Some part of a frame, mirrored half of the time."""
    height, width = (round(side * rng.uniform(_LEAST, 0.95)) for side in frame.shape[:2])
    top, left = rng.integers(0, frame.shape[0] - height + 1), rng.integers(0, frame.shape[1] - width + 1)
    part = frame[top : top + height, left : left + width]
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)
