"""Episodes that can be made again from their seed alone: what the crash test compares everything with that it reads."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vla.core.contract import Camera, Contract, Dimension
from vla.core.types import Episode
from vla.datasets.formats.source import Hints, Source
from vla.datasets.formats.table import open_source
from vla.datasets.store.content import motion_hash
from vla.datasets.store.layout import LOW_DIMENSIONAL
from vla.datasets.store.records import EpisodeRecord

_STEP_NS = 10_000_000
_DIMENSIONS = tuple(Dimension(name=f"joint{i}", unit="rad", low=-3.0, high=3.0) for i in range(6))
CONTRACT = Contract(
    robot="crash-test",
    cameras=(Camera(name="front", height=48, width=64), Camera(name="range", height=6, width=9, kind="depth", hz=30.0)),
    state=_DIMENSIONS,
    action=_DIMENSIONS,
    control_hz=100.0,
)
PICTURES = dataclasses.replace(CONTRACT, robot="crash-import", cameras=CONTRACT.cameras[:1])
"""What the formats can hold that are imported."""
CODECS = {"front": "zstd", "range": "raw"}


def steps_of(seed: int) -> int:
    """Mostly short episodes, and some that take seconds to record."""
    return 3 + seed * 7 % 23 if seed % 4 else 300


def make(seed: int, contract: Contract = CONTRACT, steps: int | None = None) -> Episode:
    """The episode of a seed."""
    rng = np.random.default_rng(seed)
    count = steps_of(seed) if steps is None else steps
    rows = {"state": rng.uniform(-3, 3, (count, 6)), "action": rng.uniform(-3, 3, (count, 6))}
    action = rows["action"].astype(np.float32)
    time_ns = np.arange(count, dtype=np.int64) * _STEP_NS
    clocks = {"range": np.arange(0, time_ns[-1] + 1, 33_000_000, dtype=np.int64)}
    clocks = {camera.name: clocks[camera.name] for camera in contract.cameras if camera.hz is not None}
    return Episode(
        images={
            camera.name: rng.integers(
                0, 1000 if camera.kind == "depth" else 256, (len(clocks.get(camera.name, time_ns)), *camera.shape)
            ).astype(camera.dtype)
            for camera in contract.cameras
        },
        image_time_ns=clocks,
        state=rows["state"].astype(np.float32),
        action=action,
        action_executed=action + np.float32(0.5),
        reward=rng.random(count).astype(np.float32),
        done=np.arange(count) == count - 1,
        valid=rng.random(count) < 0.9,
        time_ns=time_ns,
        command_time_ns=time_ns + 1000,
        instruction=f"räume Ding {seed} auf",
        instruction_alternatives=("do it",),
        task=f"task {seed % 3}",
        split="train",
        seed=seed,
        success=bool(seed % 2),
        sim_state=rng.standard_normal((count, 4)) if contract is CONTRACT else None,
        provenance={},
    )


def cut(episode: Episode, steps: int, frames: Mapping[str, int]) -> Episode:
    """What a recorder that died after ``steps`` steps and ``frames`` of each camera of its own clock leaves."""
    clocks = {name: times[: frames[name]] for name, times in episode.image_time_ns.items()}
    assert episode.sim_state is not None
    return dataclasses.replace(
        episode,
        images={name: images[: frames.get(name, steps)] for name, images in episode.images.items()},
        image_time_ns=clocks,
        **{name: getattr(episode, name)[:steps] for name in LOW_DIMENSIONAL},
        sim_state=episode.sim_state[:steps],
        success=None,
        provenance={"recovered": True},
    )


def digest(episode: Episode) -> str:
    """Of every array, every frame and every text of an episode."""
    found = hashlib.blake2b(digest_size=16)
    arrays: dict[str, Any] = {name: getattr(episode, name) for name in LOW_DIMENSIONAL}
    arrays |= {f"images/{name}": images for name, images in sorted(episode.images.items())}
    arrays |= {f"clock/{name}": times for name, times in sorted(episode.image_time_ns.items())}
    if episode.sim_state is not None:
        arrays["sim_state"] = episode.sim_state
    for name, array in arrays.items():
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    texts = (episode.instruction, episode.instruction_alternatives, episode.task, episode.split, episode.model)
    found.update(repr((texts, episode.seed, episode.success, sorted(episode.provenance.items()))).encode())
    return found.hexdigest()


@runtime_checkable
class Truth(Protocol):
    """Knows what each episode of a dataset must be."""

    def digest(self, record: EpisodeRecord) -> str:
        """Of the episode as it was before it was written, as far as the record says that it was recovered."""


class SeedTruth:
    """Episodes of `make`."""

    def digest(self, record: EpisodeRecord) -> str:
        """See `Truth`."""
        recovered = bool(record.provenance.get("recovered"))
        return _seed_digest(record.seed, record.length if recovered else None, tuple(sorted(record.frames.items())))


@functools.lru_cache(maxsize=4096)
def _seed_digest(seed: int, recovered: int | None, frames: tuple[tuple[str, int], ...]) -> str:
    episode = make(seed)
    return digest(episode if recovered is None else cut(episode, recovered, dict(frames)))


class SourceTruth:
    """Episodes that are imported from a file."""

    def __init__(self, path: Path) -> None:
        self.source: Source = open_source(path, Hints(robot="crash-import", control_hz=100.0, instruction="go"))
        self._digests: dict[tuple[str, int], str] = {}

    def digest(self, record: EpisodeRecord) -> str:
        """See `Truth`."""
        origin = record.provenance["source"]
        key = origin["path"], int(origin["episode"])
        if key not in self._digests:
            episode = self.source.read(key[1])
            source = {"path": key[0], "episode": key[1], "motion": motion_hash(episode)}
            provenance = {**episode.provenance, "source": source}
            self._digests[key] = digest(dataclasses.replace(episode, provenance=provenance))
        return self._digests[key]


def truth_of(source: Path | None) -> Truth:
    """Of a dataset that is written by `make`, or imported from ``source``."""
    return SeedTruth() if source is None else SourceTruth(source)
