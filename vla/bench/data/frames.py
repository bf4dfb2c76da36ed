"""Frames to measure with: rendered episodes of the tabletop, with the noise of a sensor."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla.core.contract import Contract
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter
from vla.envs.recording import record_episode
from vla.envs.registry import env_spec, make_expert

ENV = "tabletop/place"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Whole episodes in RAM."""

    contract: Contract
    episodes: Sequence[Episode]

    def __len__(self) -> int:
        """The number of steps."""
        return sum(map(len, self.episodes))

    @property
    def cameras(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(camera.name for camera in self.contract.cameras)

    def places(self) -> list[tuple[int, int]]:
        """(episode, step in it) of each step."""
        return [(number, step) for number, episode in enumerate(self.episodes) for step in range(len(episode))]


def record(size: int, frames: int, noise: float, seed: int) -> Recorded:
    """Episodes of the expert with at least ``frames`` steps together, images of ``size`` pixels with noise added."""
    spec = env_spec(ENV)
    env = spec.build({"image_size": size})
    expert = make_expert("tabletop/place", env)
    rng = np.random.default_rng([seed, 0x62656E6368])
    episodes: list[Episode] = []
    total = 0
    try:
        while total < frames:
            episode = record_episode(env, expert, task=ENV, seed=seed + len(episodes))
            images = {name: _noisy(pixels, noise, rng) for name, pixels in episode.images.items()}
            episodes.append(dataclasses.replace(episode, images=images))
            total += len(episode)
    finally:
        env.close()
    return Recorded(contract=env.contract, episodes=episodes)


def _noisy(pixels: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    if not noise:
        return pixels
    rough = pixels + rng.normal(0.0, noise, pixels.shape).astype(np.float32)
    return np.clip(np.rint(rough), 0, 255).astype(np.uint8)


def write_dataset(root: Path, recorded: Recorded, codec: str) -> Dataset:
    """The episodes as a dataset of one segment, the frames of all cameras packed with ``codec``."""
    create_dataset(root, recorded.contract, dict.fromkeys(recorded.cameras, codec))
    with SegmentWriter(root, recorded.contract, {"env": ENV}) as writer:
        for episode in recorded.episodes:
            writer.append(episode)
        publish(root, [writer.seal()], "bench")
    return Dataset.open(root)


def folder_bytes(path: Path) -> int:
    """The size of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
