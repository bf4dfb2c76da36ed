"""A dataset as a replay buffer of diffusion_policy: Zarr version 2, in a folder, or in one file ``.zarr.zip``."""

import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.contract import Contract, Dimension
from vla.core.media.video import frame_rate
from vla.datasets.dataset import Dataset
from vla.datasets.formats.dimensions import keys_of
from vla.datasets.formats.fidelity import Losses, frames_at_steps
from vla.datasets.formats.source import Exported, OnEpisode, new_target

_CHUNK_BYTES = 2_000_000
"""diffusion_policy's own target."""


def export_diffusion_policy(dataset: Dataset, out: Path, on_episode: OnEpisode | None = None) -> Exported:
    """Write ``dataset`` to the new folder ``out``, or to one zip file if the name ends in ``.zip``.

    An existing target, and no episodes, are a `DatasetError`.
    """
    with new_target(dataset, out) as target:
        if out.suffix != ".zip":
            return _write(dataset, target, on_episode)
        exported = _write(dataset, target.with_name("store"), on_episode)
        _zip(target.with_name("store"), target)
        return exported


def _write(dataset: Dataset, root: Path, on_episode: OnEpisode | None) -> Exported:
    import zarr

    contract, count = dataset.contract, len(dataset.episodes)
    rate = frame_rate(contract.control_hz)
    losses = Losses(contract=contract, held=frozenset())
    ends = np.cumsum([dataset.episodes[number].length for number in range(count)], dtype=np.int64)
    group = zarr.open_group(root, mode="w", zarr_format=2)
    data, meta = group.create_group("data"), group.create_group("meta")
    cameras, vectors = _create(data, contract, int(ends[-1]))
    for number in range(count):
        episode = dataset.read_episode(number)
        rows = slice(int(ends[number]) - len(episode), int(ends[number]))
        for name, array in cameras.items():
            array[rows] = frames_at_steps(episode, name)
        for what, place, array in vectors:
            array[rows] = getattr(episode, what)[:, place]
        losses.look_at(episode, rate)
        if on_episode is not None:
            on_episode(len(episode))
    written = meta.create_array("episode_ends", shape=ends.shape, chunks=ends.shape, dtype=ends.dtype, compressors=None)
    written[...] = ends
    return Exported(episodes=count, steps=int(ends[-1]), lost=losses.sentences())


def _create(data: Any, contract: Contract, rows: int) -> tuple[dict[str, Any], list[tuple[str, slice, Any]]]:
    """The arrays of cameras by name, and of vectors with the columns that they hold."""
    from numcodecs import Blosc

    def create(key: str, shape: tuple[int, ...], chunk: int, dtype: str) -> Any:
        compressor = Blosc(cname="lz4", clevel=5, shuffle=Blosc.NOSHUFFLE)
        return data.create_array(
            key,
            shape=(rows, *shape),
            chunks=(chunk, *shape),
            dtype=dtype,
            compressors=compressor,
            fill_value=0,
            config={"write_empty_chunks": True},  # as zarr-python 2 does: a missing chunk then means damage
        )

    # One frame in a chunk, so that rows can be read, and episodes written, without touching others.
    cameras = {c.name: create(c.name, c.shape, 1, "uint8") for c in contract.cameras if c.kind == "rgb"}
    vectors = []
    places = [("state", key, place) for key, place in _state_keys(contract.state, set(cameras)).items()]
    for what, key, place in [*places, ("action", "action", slice(0, len(contract.action)))]:
        width = place.stop - place.start
        chunk = min(rows, math.ceil(_CHUNK_BYTES / (4 * width)))
        vectors.append((what, place, create(key, (width,), chunk, "float32")))
    return cameras, vectors


def _state_keys(dimensions: Sequence[Dimension], taken: set[str]) -> dict[str, slice]:
    """The columns of each array; one array where the names do not say more, or say what is taken."""
    if not dimensions:
        return {}
    keys = keys_of(dimensions)
    if keys is None or any("/" in key or key in (*taken, "action") for key in keys):
        return {"state" if "state" not in taken else "state_vector": slice(0, len(dimensions))}
    return keys


def _zip(folder: Path, target: Path) -> None:
    """Stored, since chunks are compressed."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(folder).as_posix())
    with target.open("rb") as written:
        os.fsync(written.fileno())
