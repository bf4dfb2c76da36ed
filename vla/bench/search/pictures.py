"""Very many real vectors: of the frames of a dataset, and of crops of them, in files that a second run reads."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32, UInt8

from vla.bench.measure import Note
from vla.core.errors import ConfigError
from vla.core.files import make_folder, write_atomic
from vla.datasets.dataset import Dataset
from vla.search.embedding import Embedder, fitted, seen_cameras
from vla.search.settings import FramesConfig

_BATCH = 250
_LEAST = 0.5
"""Of a frame's side that a crop has."""
_CROPS = 5
"""Of each frame that is read for crops."""
_EACH, _TOLD = 2_000, 50
"""Vectors in one file, and files after which it is told how many are missing."""


def some_vectors(
    dataset: Dataset, embedder: Embedder, count: int, folder: Path, seed: int, note: Note
) -> Float16[np.ndarray, "n e"]:
    """Unit vectors, first of all frames and then of crops, no two of the same; what ``folder`` has is read."""
    make_folder(folder)
    begins = range(0, count, _EACH)
    paths = {first: folder / f"{embedder.digest[:16]}-{len(dataset)}-{seed}-{first}.npy" for first in begins}
    missing = [first for first, path in paths.items() if not path.exists()]
    for done, first in enumerate(missing):
        if done % _TOLD == 0:
            note(f"embedding {_EACH * (len(missing) - done):,} pictures")
        parts = [embedder.images(some) for some in _pictures(dataset, embedder, first, first + _EACH, seed)]
        data = io.BytesIO()
        np.save(data, np.concatenate(parts).astype(np.float16), allow_pickle=False)
        write_atomic(paths[first], data.getvalue())
    return np.asarray(np.concatenate([np.load(path, allow_pickle=False) for path in paths.values()])[:count])


def some_crops(dataset: Dataset, embedder: Embedder, count: int, seed: int) -> Float32[np.ndarray, "b e"]:
    """Of crops that nothing else is of."""
    begin = 2**40  # past all that is ever searched
    return np.concatenate([embedder.images(some) for some in _pictures(dataset, embedder, begin, begin + count, seed)])


def _pictures(
    dataset: Dataset, embedder: Embedder, first: int, end: int, seed: int
) -> Iterator[UInt8[np.ndarray, "b y x 3"]]:
    """The pictures of these numbers: a frame itself while there are any, then a crop by a generator of its own."""
    names = seen_cameras(dataset, FramesConfig(), embedder.camera)
    cameras = [camera for camera in dataset.contract.cameras if camera.name in names]
    if not len(dataset):
        raise ConfigError(f"bench search: {dataset.url}: expected at least 1 episode, got none")
    frames = len(cameras) * len(dataset)
    for begin in range(first, end, _BATCH):
        rng = np.random.default_rng([seed, begin])
        size = min(_BATCH, end - begin)
        whole = max(0, min(size, frames - begin))
        cropped = np.repeat(rng.integers(0, frames, -(-(size - whole) // _CROPS)), _CROPS)
        numbers = np.concatenate([begin + np.arange(whole), cropped])[:size]
        pictures = np.empty((size, *embedder.image_size, 3), np.uint8)
        for number, camera in enumerate(cameras):
            mine = np.flatnonzero(numbers // len(dataset) == number)
            steps, which = np.unique(numbers[mine] % len(dataset), return_inverse=True)
            seen = np.empty((len(steps), *camera.shape), np.uint8)
            dataset.read_frames(camera.name, steps, seen)
            for row, frame in zip(mine, seen[which], strict=True):
                pictures[row] = fitted(frame if row < whole else _crop(frame, rng), embedder.image_size)
        yield pictures


def _crop(frame: UInt8[np.ndarray, "y x 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "v u 3"]:
    """Some part of a frame, mirrored half of the time."""
    height, width = (round(side * rng.uniform(_LEAST, 0.95)) for side in frame.shape[:2])
    top, left = rng.integers(0, frame.shape[0] - height + 1), rng.integers(0, frame.shape[1] - width + 1)
    part = frame[top : top + height, left : left + width]
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)
