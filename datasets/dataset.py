"""Opens a dataset: an index of its episodes, low-dimensional arrays in RAM once they are used, frames on demand."""

import bisect
import json
import operator
from array import array
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Bool, Float32, Int64

from vla.core.contract import Camera, Contract, require_match
from vla.core.errors import DatasetError
from vla.core.lookup import lookup
from vla.core.types import Episode
from vla.datasets.frames.codecs import frame_codec
from vla.datasets.frames.shard_reader import ShardReader
from vla.datasets.frames.shard_writer import owner_of
from vla.datasets.storage.storage import Location, Storage, open_storage
from vla.datasets.store.arrays import read_checked_array
from vla.datasets.store.clocks import CameraClocks
from vla.datasets.store.documents import encode
from vla.datasets.store.layout import (
    LOW_DIMENSIONAL,
    Commit,
    Description,
    check_names,
    explain_full_disk,
    image_name,
    read_checked,
    read_commit,
    read_description,
    row_kinds,
    segment_name,
    signal_name,
    sim_state_name,
)
from vla.datasets.store.manifest import Manifest, read_manifest
from vla.datasets.store.records import EpisodeIndex
from vla.datasets.store.segment import Files

_CACHED_INDEX_BYTES = 64 * 2**20
"""Shard indexes that are kept, 16 bytes a frame: those of 4 million frames."""


def create_dataset(root: Location | Storage, contract: Contract, codecs: Mapping[str, str] | None = None) -> None:
    """Make ``root`` an empty dataset; does nothing if it is one of a contract that fits, and refuses another.

    ``codecs`` names the frame codec of cameras: zstd (the default, lossless), jpeg (for real cameras) or raw.
    """
    storage = open_storage(root)
    check_names(contract)
    cameras = {camera.name: camera for camera in contract.cameras}
    chosen = dict.fromkeys(cameras, "zstd")
    for name, codec in (codecs or {}).items():
        frame_codec(codec, lookup("camera", name, cameras))
        chosen[name] = codec
    value = {"contract": contract.to_json(), "codecs": chosen}
    with explain_full_disk(storage, f"dataset {storage.url}"):
        created = storage.put_if_absent("dataset.json", encode(value))
    if not created:
        existing = read_description(storage).contract
        fix = "Use another folder for another robot"
        require_match(contract, existing, who="the new contract", whom=f"the existing dataset {storage.url}", fix=fix)


class Dataset:
    """One version of a dataset. Pickled, it is a location and a number: another process reads the files itself."""

    def __init__(
        self,
        storage: Storage,
        description: Description,
        manifest: Manifest,
        episodes: EpisodeIndex,
        commits: Sequence[Commit],
    ) -> None:
        self.storage = storage
        self.contract = description.contract
        self.codecs = description.codecs
        self.manifest = manifest
        self.episodes = episodes
        self.episode_starts: Int64[np.ndarray, " episodes"] = episodes.starts
        self.episode_lengths: Int64[np.ndarray, " episodes"] = episodes.lengths
        self._starts = array("q", episodes.starts.tobytes())
        self._steps = int(episodes.lengths.sum())
        self._commits = commits
        self._cameras = {camera.name: camera for camera in self.contract.cameras}
        self._readers: dict[tuple[str, int], ShardReader] = {}
        self._cached_bytes = 0

    @staticmethod
    def open(root: Location | Storage, manifest: int | None = None) -> "Dataset":
        """Open the version ``manifest``, the latest by default.

        Documents and the presence and size of every file are checked here, arrays and frames when they are read;
        anything missing or damaged is a `DatasetError`.
        """
        storage = open_storage(root)
        description = read_description(storage)
        version = read_manifest(storage, manifest)
        commits = [read_commit(storage, name, expected=version.digests.get(name)) for name in version.segments]
        return Dataset._of(storage, description, version, commits)

    @staticmethod
    def of_segment(storage: Storage, segment: str, commit: Commit | None = None) -> "Dataset":
        """One sealed segment alone, published or not, some of its files perhaps damaged; not to be pickled.

        ``commit`` is what is believed of it if its own record is damaged.
        """
        version = Manifest(number=0, parent=None, segments=(segment,), created="", reason="")
        commit = commit or read_commit(storage, segment, check_sizes=False)
        return Dataset._of(storage, read_description(storage), version, [commit])

    @staticmethod
    def _of(storage: Storage, description: Description, version: Manifest, commits: Sequence[Commit]) -> "Dataset":
        texts = [read_checked(storage, s, c, "episodes.json") for s, c in zip(version.segments, commits, strict=True)]
        index = EpisodeIndex.build(
            [(f"{storage.url}/{segment_name(s)}", text) for s, text in zip(version.segments, texts, strict=True)]
        )
        episodes = np.bincount(index.segments, minlength=len(commits))
        steps = np.bincount(index.segments, index.lengths, minlength=len(commits))
        for segment, commit, *found in zip(version.segments, commits, episodes, steps, strict=True):
            if found != [commit.episodes, commit.steps]:
                raise DatasetError(f"{storage.url}/{segment_name(segment)}: episodes.json does not fit COMMIT.json")
        if version.dropped:
            index = index.take(np.flatnonzero(~np.isin(index.uids, np.array(version.dropped, "S"))))
        index.override(version.overrides)
        return Dataset(storage, description, version, index, commits)

    def __len__(self) -> int:
        """The number of steps."""
        return self._steps

    def __reduce__(self) -> tuple[Any, ...]:
        return Dataset.open, (self.storage.url, self.manifest.number)

    def __repr__(self) -> str:
        return f"Dataset({self.storage.url!r}, version {self.manifest.number}, {len(self.episodes)} episodes)"

    @property
    def url(self) -> str:
        """Path or URL."""
        return self.storage.url

    @cached_property
    def state(self) -> Float32[np.ndarray, "t s"]:
        """Proprioception at each step."""
        return self._rows("state")

    @cached_property
    def action(self) -> Float32[np.ndarray, "t d"]:
        """The label of each step."""
        return self._rows("action")

    @cached_property
    def action_executed(self) -> Float32[np.ndarray, "t d"]:
        """What was sent to the robot."""
        return self._rows("action_executed")

    @cached_property
    def reward(self) -> Float32[np.ndarray, " t"]:
        """The reward of each step."""
        return self._rows("reward")

    @cached_property
    def done(self) -> Bool[np.ndarray, " t"]:
        """Whether the task ended with the step."""
        return self._rows("done")

    @cached_property
    def valid(self) -> Bool[np.ndarray, " t"]:
        """Whether the label may be learned from."""
        return self._rows("valid")

    @cached_property
    def time_ns(self) -> Int64[np.ndarray, " t"]:
        """Capture times."""
        return self._rows("time_ns")

    @cached_property
    def command_time_ns(self) -> Int64[np.ndarray, " t"]:
        """When each command left."""
        return self._rows("command_time_ns")

    @cached_property
    def signals(self) -> Mapping[str, Float32[np.ndarray, "t g"]]:
        """What the dataset says beside states and actions, by the names of the contract."""
        return {name: self._rows(signal_name(name)) for name in self.contract.signals}

    def require_contract(self, contract: Contract, who: str) -> None:
        """Raise `ContractError` unless ``who``, of this contract, fits the dataset."""
        fix = "Use a dataset of the same robot"
        require_match(contract, self.contract, who=who, whom=f"dataset {self.url}", fix=fix)

    def frame(self, camera: str, step: SupportsIndex) -> np.ndarray:
        """The frame of a camera at one step of the dataset, (y, x, c): the latest, if it has a rate of its own."""
        number = operator.index(step)
        if not 0 <= number < len(self):
            raise IndexError(f"{self.url}: step {number} of {len(self)}")
        shape, dtype = self._camera(camera).shape, self._camera(camera).dtype
        out = np.empty(shape, dtype)
        self.read_frames(camera, np.array([number], np.int64), out[None])
        return out

    def read_frames(self, camera: str, steps: Int64[np.ndarray, " b"], out: np.ndarray) -> None:
        """Decode the frames of a camera at some steps of the dataset into ``out``, contiguous rows of (y, x, c)."""
        own_rate = self._camera(camera).hz is not None
        starts, readers = self._starts, self._readers
        for row, step in enumerate(steps.tolist()):  # a bisection of 0.3 us is cheaper than calling numpy for one frame
            episode = bisect.bisect_right(starts, step) - 1
            frame = self._clocks.frame(camera, step) if own_rate else step - starts[episode]
            shard = readers.get((camera, episode)) or self._reader(camera, episode)
            shard.read_into(frame, out[row])

    def read_episode(self, number: SupportsIndex) -> Episode:
        """The whole episode, as it was appended, with what this version says of it."""
        number = range(len(self.episodes))[number]
        images = {}
        for camera in self.contract.cameras:
            reader = self._reader(camera.name, number)
            images[camera.name] = np.empty(reader.shape, camera.dtype)
            for frame, row in enumerate(images[camera.name]):
                reader.read_into(frame, row)
        return self._episode(number, images)

    def read_rows(self, number: SupportsIndex) -> Episode:
        """The episode without its images."""
        return self._episode(range(len(self.episodes))[number], {})

    def image_files(self, number: SupportsIndex) -> dict[str, Files]:
        """The files of an episode's image arrays, by camera, to be copied into another segment."""
        number = range(len(self.episodes))[number]
        found = {}
        for camera in self._cameras:
            segment, array = self._place(number), image_name(camera, int(self.episodes.numbers[number]))
            prefix = f"data.zarr/{array}/"
            files = self._commits[self.episodes.segments[number]].files
            names = [f"{prefix}zarr.json", f"{prefix}c/0/0/0/0"]
            if any(name not in files for name in names):  # written by somebody else
                names = [name for name in files if name.startswith(prefix)]
            checksums = {name.removeprefix(prefix): files[name].crc32c for name in names}
            found[camera] = Files(self.storage, f"{segment}/{prefix}".rstrip("/"), checksums)
        return found

    def segment_bytes(self, segment: int) -> int:
        """Size of a segment of the manifest, by position."""
        return sum(entry.bytes for entry in self._commits[segment].files.values())

    def segment_episodes(self, segment: int) -> int:
        """Episodes that lie in a segment, those too that this version drops."""
        return self._commits[segment].episodes

    def provenance(self, segment: int) -> dict[str, Any]:
        """Where the episodes of a segment come from: what its writer was given."""
        name = self.manifest.segments[segment]
        data = read_checked(self.storage, name, self._commits[segment], "data.zarr/zarr.json")
        attributes: dict[str, Any] = json.loads(data)["attributes"]
        return attributes

    def _episode(self, number: int, images: Mapping[str, np.ndarray]) -> Episode:
        record = self.episodes[number]
        rows = slice(record.start, record.start + record.length)
        states = sim_state_name(int(self.episodes.numbers[number]))
        sim_state = self._read_sim_state(number, states, record.length) if record.sim_state else None
        return Episode(
            images=images,
            image_time_ns={camera: self._clocks.times(camera, number) for camera in record.frames},
            instruction=record.instruction,
            instruction_alternatives=record.instruction_alternatives,
            task=record.task,
            split=record.split,
            seed=record.seed,
            success=record.success,
            questions=record.questions,
            sim_state=sim_state,
            model=self._read_checked(number, f"models/{record.model}.xml").decode() if record.model else "",
            provenance=record.provenance,
            signals={name: signal[rows] for name, signal in self.signals.items()},
            **{name: getattr(self, name)[rows] for name in LOW_DIMENSIONAL},
        )

    def _place(self, number: int) -> str:
        """The folder of an episode's segment."""
        return segment_name(self.manifest.segments[self.episodes.segments[number]])

    def _read_checked(self, number: int, name: str) -> bytes:
        segment = int(self.episodes.segments[number])
        return read_checked(self.storage, self.manifest.segments[segment], self._commits[segment], name)

    def _read_sim_state(self, number: int, name: str, steps: int) -> np.ndarray:
        width = int(json.loads(self._read_checked(number, f"data.zarr/{name}/zarr.json"))["shape"][1])
        segment = int(self.episodes.segments[number])
        where = self.storage, self.manifest.segments[segment], self._commits[segment]
        return read_checked_array(*where, name, shape=(steps, width), dtype="float64")

    @cached_property
    def _clocks(self) -> CameraClocks:
        """When the frames of cameras with a rate of their own were captured."""
        return CameraClocks(self.storage, self.manifest.segments, self._commits, self.episodes, self.time_ns)

    def _camera(self, name: str) -> Camera:
        try:
            return self._cameras[name]
        except KeyError:
            raise DatasetError(f"{self.url}: no camera {name!r}; it has {', '.join(self._cameras)}") from None

    def _reader(self, camera: str, episode: int) -> ShardReader:
        """The open array of one episode and camera; the oldest are forgotten when their indexes take too much RAM."""
        key = (camera, episode)
        reader = self._readers.get(key)
        if reader is None:
            array = image_name(camera, int(self.episodes.numbers[episode]))
            place = f"{self._place(episode)}/data.zarr/{array}"
            owner = owner_of(self.episodes.hashes[episode].decode(), camera)
            reader = ShardReader(self.storage, place, self._camera(camera), owner)
            own_rate = self._camera(camera).hz is not None
            expected = self._clocks.count(camera, episode) if own_rate else int(self.episode_lengths[episode])
            if len(reader) != expected:
                raise DatasetError(f"{self.url}/{place}: {len(reader)} frames are wrong")
            self._readers[key] = reader
            self._cached_bytes += 16 * len(reader) + 1000
            while self._cached_bytes > _CACHED_INDEX_BYTES and len(self._readers) > 1:
                oldest = self._readers.pop(next(iter(self._readers)))
                self._cached_bytes -= 16 * len(oldest) + 1000
        return reader

    def _rows(self, name: str) -> np.ndarray:
        """All rows of one low-dimensional array."""
        dtype, shape = row_kinds(self.contract)[name]
        if 0 in shape:
            return np.empty((len(self), *shape), dtype)
        index, parts = self.episodes, [np.empty((0, *shape), dtype)]
        bounds = np.searchsorted(index.segments, np.arange(len(self._commits) + 1))
        for number, (segment, commit) in enumerate(zip(self.manifest.segments, self._commits, strict=True)):
            first, last = bounds[number], bounds[number + 1]
            if first == last:
                continue
            rows = read_checked_array(self.storage, segment, commit, name, shape=(commit.steps, *shape), dtype=dtype)
            if index.lengths[first:last].sum() < commit.steps:
                rows = np.concatenate(
                    [rows[o : o + n] for o, n in zip(index.offsets[first:last], index.lengths[first:last], strict=True)]
                )
            parts.append(rows)
        result: np.ndarray = np.concatenate(parts)
        result.flags.writeable = False
        return result
