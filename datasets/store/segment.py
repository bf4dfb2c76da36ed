"""Writes one immutable segment: many episodes, sealed by a commit record and renamed into place."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import google_crc32c
import numpy as np

from vla.core.contract import Contract, require_match
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.frames.codecs import frame_codec
from vla.datasets.frames.shard_writer import ShardWriter, owner_of
from vla.datasets.storage.storage import LocalStorage, Location, Storage, open_storage
from vla.datasets.store.arrays import write_array, write_group
from vla.datasets.store.episode_check import check_episode
from vla.datasets.store.layout import (
    check_names,
    explain_full_disk,
    image_name,
    read_description,
    row_kinds,
    rows_of,
    sim_state_name,
)
from vla.datasets.store.records import EpisodeRecord, content_hash, encode_records, record_of
from vla.datasets.store.staging import StagedSegment


class SegmentWriter:
    """Collects episodes and makes them durable at once: before `seal` returns nothing is visible, after it all is.

    Frames are packed and written as they come; RAM holds the low-dimensional arrays. Use it as a context manager: an
    exception, or leaving without `seal`, removes what was written.
    """

    def __init__(
        self,
        root: Location | Storage,
        contract: Contract,
        provenance: Mapping[str, Any],
        *,
        codecs: Mapping[str, str] | None = None,
        replaces: Sequence[str] = (),
    ) -> None:
        """Begin a segment of the dataset at ``root``; ``provenance`` is JSON and becomes the group's attributes.

        ``codecs`` of cameras other than the dataset's; ``replaces`` names segments that hold the same episodes.
        """
        self._storage = open_storage(root)
        description = read_description(self._storage)
        self._contract = description.contract
        fix = "Write to another dataset"
        require_match(contract, self._contract, who="the writer", whom=f"dataset {self._storage.url}", fix=fix)
        check_names(self._contract)
        self._codecs = {**description.codecs, **(codecs or {})}
        self._encode = {c.name: frame_codec(self._codecs[c.name], c).encode for c in self._contract.cameras}
        self._replaces = replaces
        with explain_full_disk(self._storage, "a new segment"):
            self._staged = StagedSegment.begin(self._storage)
        with self._writing():
            self._builder = SegmentBuilder(self._staged, self._contract, provenance)

    @property
    def id(self) -> str:
        """Of the segment."""
        return self._staged.id

    @property
    def episodes(self) -> int:
        """The number of episodes appended so far."""
        return len(self._builder.records)

    @property
    def steps(self) -> int:
        """The number of steps appended so far."""
        return self._builder.steps

    def append(self, episode: Episode, content: str | None = None) -> str:
        """Add an episode and return its uid; one that does not fit the contract is refused and changes nothing.

        ``content`` is its `content_hash`, where that is known already.
        """
        self._require_open()
        check_episode(episode, self._contract)
        number, folder, content = self.episodes, self._staged.folder, content or content_hash(episode)
        with self._writing():
            for camera in self._contract.cameras:
                shard = ShardWriter(image_array(folder, camera.name, number), camera, self._codecs[camera.name])
                encode = self._encode[camera.name]
                try:
                    for frame in episode.images[camera.name]:
                        shard.append(encode(np.ascontiguousarray(frame)))
                    shard.close(owner_of(content, camera.name))
                finally:
                    shard.abandon()
            return self._builder.add(episode, content)

    def copy(self, record: EpisodeRecord, rows: Episode, source: "Mapping[str, Files]") -> str:
        """Add an episode of another segment as it lies there: its frames are not packed anew, and it keeps its uid.

        ``rows`` is the episode, its images not looked at; ``source`` the files of its image arrays, by camera.
        """
        self._require_open()
        number, folder = self.episodes, self._staged.folder
        with self._writing():
            for camera, files in source.items():
                files.copy(image_array(folder, camera, number))
            return self._builder.add(rows, record.content_hash, uid=record.uid)

    def seal(self) -> str:
        """Write what is pending, flush everything to disk, commit, rename into place; return the segment's id."""
        self._require_open()
        if not self.episodes:
            raise DatasetError("a segment needs at least one episode: append one, or abandon the writer")
        with self._writing():
            self._builder.seal(self._replaces)
        return self.id

    def abandon(self) -> None:
        """Remove everything that was written; does nothing after `seal`."""
        self._staged.abandon()

    def __enter__(self) -> "SegmentWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        forgotten = self._staged.open and kind is None and self.episodes
        self.abandon()
        if forgotten:
            raise DatasetError(
                f"{forgotten} episodes were appended but never sealed: call seal() before the block ends"
            )

    def _require_open(self) -> None:
        if not self._staged.open:
            raise DatasetError(f"segment {self.id} is sealed or abandoned: begin a new SegmentWriter")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Around every write: a failure abandons the segment, and a full disk is explained."""
        try:
            with explain_full_disk(self._storage, f"segment {self.id}"):
                yield
        except BaseException:
            self.abandon()
            raise


class SegmentBuilder:
    """Makes a segment of a staged folder, for every kind of writer: begin, `add` each episode, `seal`.

    Frames come first and by another way: before an episode is added, its shards lie at `image_array`.
    """

    def __init__(self, staged: StagedSegment, contract: Contract, provenance: Mapping[str, Any]) -> None:
        """``provenance`` is JSON and becomes the attributes of the group."""
        self._staged = staged
        self._rows = _Rows(contract)
        self.records: list[EpisodeRecord] = []
        self.steps = 0
        _begin_arrays(staged.folder, contract, provenance)

    def add(self, episode: Episode, content: str, *, uid: str | None = None) -> str:
        """Add all of an episode but its frames, under its old uid or a new one, which is returned.

        ``content`` is its `content_hash`, frames included.
        """
        number, folder = len(self.records), self._staged.folder
        model = _write_model(folder, episode.model)
        if episode.sim_state is not None:
            _write_sim_state(folder, number, episode.sim_state)
        self._rows.add(episode)
        uid = uid or f"{self._staged.id}-{number:06d}"
        record = record_of(episode, uid=uid, start=self.steps, content=content, model=model)
        self.records.append(record)
        self.steps += len(episode)
        return record.uid

    def seal(self, replaces: Sequence[str] = ()) -> None:
        """Write what is pending, flush everything to disk, write the commit record, rename into place."""
        self._rows.write(self._staged.folder)
        (self._staged.folder / "episodes.json").write_bytes(encode_records(self.records))
        self._staged.commit(steps=self.steps, episodes=len(self.records), replaces=replaces)
        self._staged.install()


class _Rows:
    """The low-dimensional arrays of a segment, collected episode by episode."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._parts: dict[str, list[np.ndarray]] = {name: [] for name in row_kinds(contract)}
        self._clocks: dict[str, list[np.ndarray]] = {c.name: [] for c in contract.cameras if c.hz is not None}

    def add(self, episode: Episode) -> None:
        """Copy the rows of an episode: the caller may reuse its buffers."""
        for name, rows in rows_of(episode, self._contract).items():
            self._parts[name].append(np.array(rows))
        for camera, parts in self._clocks.items():
            parts.append(np.array(episode.image_time_ns[camera]))

    def write(self, folder: Path) -> None:
        """Write all arrays below a segment's folder; those without columns are left out."""
        for name, parts in self._parts.items():
            array = np.concatenate(parts)
            if array.size:
                write_array(folder / "data.zarr" / name, array, ("time", name)[: array.ndim])
        for camera, parts in self._clocks.items():
            write_array(folder / "data.zarr" / "image_time_ns" / camera, np.concatenate(parts), ("frame",))


class Files:
    """The files of one array in a sealed segment, to be copied with their checksums compared."""

    def __init__(self, storage: Storage, folder: str, checksums: Mapping[str, str]) -> None:
        """``checksums``: crc32c of each file, by its path relative to ``folder``."""
        self._storage, self._folder, self._checksums = storage, folder, checksums

    def copy(self, target: Path) -> None:
        """Link or copy all files; one that fails its checksum is a `DatasetError`."""
        for name, checksum in self._checksums.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = self._storage.read(f"{self._folder}/{name}")
            if f"{google_crc32c.value(data):08x}" != checksum:
                raise DatasetError(
                    f"{self._storage.url}/{self._folder}/{name}: the file fails its checksum and is not copied; "
                    "run vla data repair first"
                )
            if not (isinstance(self._storage, LocalStorage) and _link(self._storage.root / self._folder / name, path)):
                path.write_bytes(data)


def _link(source: Path, target: Path) -> bool:
    """A hard link, where the file system allows one: sealed files never change, so two segments may share them."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def image_array(folder: Path, camera: str, number: int) -> Path:
    """Folder of the image array of episode ``number``, below the folder of a segment."""
    return folder / "data.zarr" / image_name(camera, number)


def _begin_arrays(folder: Path, contract: Contract, provenance: Mapping[str, Any]) -> None:
    """The groups of a segment's ``data.zarr``."""
    store = folder / "data.zarr"
    write_group(store, dict(provenance))
    write_group(store / "images", {})
    for camera in contract.cameras:
        write_group(store / "images" / camera.name, {})
    if any(camera.hz is not None for camera in contract.cameras):
        write_group(store / "image_time_ns", {})
    if contract.signals:
        write_group(store / "signals", {})


def _write_sim_state(folder: Path, number: int, states: np.ndarray) -> None:
    """The simulator states of episode ``number``, float64 (t, m)."""
    path = folder / "data.zarr" / sim_state_name(number)
    if not path.parent.exists():
        write_group(path.parent, {})
    write_array(path, states.astype(np.float64), ("time", "sim_state"))


def _write_model(folder: Path, model: str) -> str:
    """Keep a simulator model under the hash of its text, which is returned; none for an empty text."""
    if not model:
        return ""
    digest = hashlib.blake2b(model.encode(), digest_size=8).hexdigest()
    path = folder / "models" / f"{digest}.xml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.encode())
    return digest
