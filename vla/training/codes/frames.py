"""Pictures of a dataset for image codecs: drawn by the seed, those of some episodes held out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64, UInt8

from vla.core.contract import Camera
from vla.core.errors import ConfigError, DatasetError
from vla.core.lookup import lookup
from vla.datasets.dataset import Dataset
from vla.datasets.selection import Selection
from vla.models.pictures.pictures import Pictures
from vla.training.codes.settings import FramesConfig

_MOST_BYTES = 2**29
"""Of the pictures of all cameras together, that are fitted to."""
_HELD_OUT = 0.1
"""Share of the episodes that is held out, at least one of several."""


@dataclass(frozen=True, kw_only=True)
class Frames:
    """What is fitted to, and what is reported of, against the backgrounds of the former."""

    train: Pictures
    held_out: Pictures
    held_out_episodes: bool
    """False where the dataset has a single episode: then pictures of it are all that can be held out."""


def read_frames(dataset: Dataset, config: FramesConfig, seed: int) -> Frames:
    """Read them; a dataset without pictures, or with cameras of several sizes, is a `ConfigError` that says which."""
    cameras = _cameras(dataset, config.cameras)
    rng = np.random.default_rng([seed, 0x66726D])
    ours, theirs, apart = _split(dataset, config.split, rng)
    one = int(np.prod(cameras[0].shape))
    most = min(config.pictures, max(10, _MOST_BYTES // (one * len(cameras))))
    train = {camera.name: _read(dataset, camera, ours, most, rng) for camera in cameras}
    held_out = {camera.name: _read(dataset, camera, theirs, max(1, most // 10), rng) for camera in cameras}
    fitted = Pictures.of_cameras(train)
    measured = replace(Pictures.of_cameras(held_out), backgrounds=fitted.backgrounds, means=fitted.means)
    return Frames(train=fitted, held_out=measured, held_out_episodes=apart)


def _cameras(dataset: Dataset, names: Sequence[str]) -> list[Camera]:
    known = {camera.name: camera for camera in dataset.contract.cameras}
    rgb = [camera for camera in known.values() if camera.kind == "rgb"]
    chosen = [lookup("camera", name, known) for name in names] or rgb
    if not chosen or not len(dataset):
        raise DatasetError(f"dataset {dataset.url} has no colour pictures to make codes of")
    for camera in chosen:
        if camera.kind != "rgb":
            seen = ", ".join(other.name for other in rgb) or "none"
            raise ConfigError(
                f"camera {camera.name!r} sees {camera.kind}, and codes are made of colours; cameras: {seen}"
            )
    if len({camera.shape for camera in chosen}) > 1:
        sizes = ", ".join(f"{camera.name} {camera.shape[0]} x {camera.shape[1]}" for camera in chosen)
        raise ConfigError(f"cameras of several sizes ({sizes}) cannot share a codec; choose with --cameras")
    return chosen


def _split(
    dataset: Dataset, split: str | None, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, " t"], Int64[np.ndarray, " u"], bool]:
    """Steps to fit to and to report of, and whether these are of different episodes."""
    episodes = len(dataset.episodes)
    if split is not None:
        held_out = Selection(splits=(split,)).mask(dataset.episodes)
        if held_out.all():
            raise ConfigError(f"every episode is of split {split!r}, so nothing is left to fit to; choose another")
    else:
        held_out = np.zeros(episodes, bool)
        held_out[rng.permutation(episodes)[: min(episodes - 1, max(1, round(_HELD_OUT * episodes)))]] = True
    of_step = np.repeat(held_out, dataset.episode_lengths)
    if of_step.any():
        return np.flatnonzero(~of_step), np.flatnonzero(of_step), True
    if len(of_step) < 2:
        raise DatasetError(f"dataset {dataset.url} has a single step: nothing to fit to and to report of")
    return np.arange(len(of_step))[::2], np.arange(len(of_step))[1::2], False


def _read(
    dataset: Dataset, camera: Camera, steps: Int64[np.ndarray, " t"], most: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "b y x 3"]:
    chosen = np.sort(rng.choice(steps, min(most, len(steps)), replace=False))
    out = np.empty((len(chosen), *camera.shape), np.uint8)
    dataset.read_frames(camera.name, chosen, out)
    return out
