"""Opens a dataset: low-dimensional arrays in RAM, frames decoded when asked for."""

import bisect
import dataclasses
import json
import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex

import google_crc32c
import numpy as np
import zarr
from jaxtyping import Bool, Float32, Int64, UInt8

from vla.core.contract import Contract, require_match
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.episode_check import check_cameras
from vla.datasets.layout import (
    FORMAT_VERSION,
    LOW_DIMENSIONAL,
    Commit,
    explain_full_disk,
    put_if_absent,
    read_commit,
    read_dataset_contract,
    segments_folder,
    widths,
)
from vla.datasets.manifest import Manifest, read_manifest
from vla.datasets.records import EpisodeRecord
from vla.datasets.shard_reader import ShardReader


def create_dataset(root: Path, contract: Contract) -> None:
    """Make ``root`` an empty dataset; does nothing if it is one of a contract that fits, and refuses another."""
    check_cameras(contract)
    value = {"format_version": FORMAT_VERSION, "contract": contract.to_json()}
    with explain_full_disk(root, f"dataset {root}"):
        created = put_if_absent(root / "dataset.json", value)
    if not created:
        existing = read_dataset_contract(root)
        fix = "Use another folder for another robot"
        require_match(contract, existing, who="the new contract", whom=f"the existing dataset {root}", fix=fix)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """One version of a dataset. Pickled, it is a path and a number: another process reads the files itself."""

    path: Path
    contract: Contract
    manifest: Manifest
    episodes: list[EpisodeRecord]
    """``start`` counts frames of the dataset."""
    episode_starts: Int64[np.ndarray, " episodes"]
    episode_lengths: Int64[np.ndarray, " episodes"]
    state: Float32[np.ndarray, "t s"]
    action: Float32[np.ndarray, "t d"]
    action_executed: Float32[np.ndarray, "t d"]
    reward: Float32[np.ndarray, " t"]
    done: Bool[np.ndarray, " t"]
    valid: Bool[np.ndarray, " t"]
    time_ns: Int64[np.ndarray, " t"]
    command_time_ns: Int64[np.ndarray, " t"]
    grounding: Float32[np.ndarray, "t g"]
    _segment_starts: list[int] = field(repr=False)
    _readers: dict[str, list[ShardReader]] = field(repr=False)

    @staticmethod
    def open(path: str | Path, manifest: int | None = None) -> "Dataset":
        """Open the version ``manifest``, the latest by default; anything missing or damaged is a `DatasetError`."""
        root = Path(path).absolute()
        contract = read_dataset_contract(root)
        version = read_manifest(root, manifest)
        starts, frames = [], 0
        episodes: list[EpisodeRecord] = []
        rows: dict[str, list[np.ndarray]] = {name: [_empty(name, contract)] for name in LOW_DIMENSIONAL}
        readers: dict[str, list[ShardReader]] = {camera.name: [] for camera in contract.cameras}
        for segment in version.segments:
            commit = read_commit(root, segment)
            folder = segments_folder(root) / segment
            _verify_small_files(folder, commit)
            episodes += _read_records(folder, commit, frames)
            for name, parts in rows.items():
                parts.append(_read_rows(folder, name, commit.frames, contract))
            for camera in contract.cameras:
                readers[camera.name].append(_open_reader(folder, camera.name, commit.frames))
            starts.append(frames)
            frames += commit.frames
        return Dataset(
            path=root,
            contract=contract,
            manifest=version,
            episodes=episodes,
            episode_starts=np.array([episode.start for episode in episodes], np.int64),
            episode_lengths=np.array([episode.length for episode in episodes], np.int64),
            _segment_starts=starts,
            _readers=readers,
            **{name: np.concatenate(parts) for name, parts in rows.items()},
        )

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.state)

    def __reduce__(self) -> tuple[Any, ...]:
        return Dataset.open, (self.path, self.manifest.number)

    def require_contract(self, contract: Contract, who: str) -> None:
        """Raise `ContractError` unless ``who``, of this contract, fits the dataset."""
        fix = "Use a dataset of the same robot"
        require_match(contract, self.contract, who=who, whom=f"dataset {self.path}", fix=fix)

    def frame(self, camera: str, index: SupportsIndex) -> UInt8[np.ndarray, "y x 3"]:
        """Decode one frame; read-only."""
        number = operator.index(index)
        if not 0 <= number < len(self):
            raise IndexError(f"{self.path}: frame {number} of {len(self)}")
        segment = bisect.bisect_right(self._segment_starts, number) - 1
        return self._camera(camera)[segment].frame(number - self._segment_starts[segment])

    def frames(self, camera: str, indices: Iterable[SupportsIndex], out: UInt8[np.ndarray, "b y x 3"]) -> None:
        """Decode frames into the rows of ``out``."""
        for row, index in enumerate(indices):
            out[row] = self.frame(camera, index)

    def read_episode(self, episode: SupportsIndex) -> Episode:
        """The whole episode, as it was appended."""
        record = self.episodes[episode]
        rows = slice(record.start, record.start + record.length)
        images = {}
        for camera in self.contract.cameras:
            images[camera.name] = np.empty((record.length, camera.height, camera.width, 3), np.uint8)
            self.frames(camera.name, range(rows.start, rows.stop), images[camera.name])
        return Episode(
            images=images,
            instruction=record.instruction,
            instruction_alternatives=record.instruction_alternatives,
            task=record.task,
            split=record.split,
            seed=record.seed,
            success=record.success,
            **{name: getattr(self, name)[rows] for name in LOW_DIMENSIONAL},
        )

    def _camera(self, name: str) -> list[ShardReader]:
        try:
            return self._readers[name]
        except KeyError:
            raise DatasetError(f"{self.path}: no camera {name!r}; it has {', '.join(self._readers)}") from None


def _empty(name: str, contract: Contract) -> np.ndarray:
    """No rows of an array: a dataset may have no segments."""
    dtype, vector = LOW_DIMENSIONAL[name]
    return np.empty((0, widths(contract)[name]) if vector else (0,), dtype)


def _damage(path: Path, what: str) -> DatasetError:
    return DatasetError(f"{path}: {what}; restore the segment from a copy, or open an older manifest")


def _verify_small_files(folder: Path, commit: Commit) -> None:
    """Check the crc32c of all that is read whole; shards have checksums of their own, checked frame by frame."""
    for name, (_, checksum) in commit.files.items():
        if name.startswith("data.zarr/images/") and not name.endswith("zarr.json"):
            continue
        if google_crc32c.value((folder / name).read_bytes()) != checksum:
            raise _damage(folder / name, "the file fails its checksum")


def _read_records(folder: Path, commit: Commit, offset: int) -> list[EpisodeRecord]:
    """The episodes of a segment, moved by ``offset`` frames, which must tile it."""
    path = folder / "episodes.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    records = [EpisodeRecord.from_json(value, where=str(path)) for value in values]
    end = 0
    for record in records:
        if record.start != end or record.length < 1:
            raise _damage(path, f"episode {record.uid} starts at {record.start}, expected {end}")
        end += record.length
    if end != commit.frames or len(records) != commit.episodes:
        raise _damage(path, f"expected {commit.frames} frames, got {end}")
    return [dataclasses.replace(record, start=record.start + offset) for record in records]


def _read_rows(folder: Path, name: str, frames: int, contract: Contract) -> np.ndarray:
    """One low-dimensional array of a segment."""
    dtype, vector = LOW_DIMENSIONAL[name]
    shape = (frames, widths(contract)[name]) if vector else (frames,)
    if 0 in shape:
        return np.empty(shape, dtype)
    path = folder / "data.zarr" / name
    try:
        array = np.asarray(zarr.open_array(path, mode="r")[...])
    except (OSError, RuntimeError, ValueError) as error:
        raise _damage(path, f"cannot be read ({error})") from None
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise _damage(path, f"expected {dtype} {shape}, got {array.dtype} {array.shape}")
    return array


def _open_reader(folder: Path, camera: str, frames: int) -> ShardReader:
    reader = ShardReader(folder / "data.zarr" / "images" / camera)
    if len(reader) != frames:
        raise _damage(folder / "data.zarr" / "images" / camera, f"expected {frames} frames, got {len(reader)}")
    return reader
