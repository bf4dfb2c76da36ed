"""Writes one immutable segment: many episodes, sealed by a commit record and renamed into place."""

import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from vla.core.contract import Contract, require_match
from vla.core.errors import DatasetError
from vla.core.files import sync_folder, write_json
from vla.core.types import Episode
from vla.datasets.episode_check import check_cameras, check_episode
from vla.datasets.layout import (
    FORMAT_VERSION,
    LOW_DIMENSIONAL,
    ZSTD_LEVEL,
    explain_full_disk,
    now,
    read_dataset_contract,
    segments_folder,
)
from vla.datasets.records import EpisodeRecord, record_of
from vla.datasets.shard_writer import ShardWriter


class SegmentWriter:
    """Collects episodes and makes them durable at once: before `seal` returns nothing is visible, after it all is.

    Images are compressed as they come, so that RAM holds at most one compressed shard of each camera. Use it as a
    context manager: an exception, or leaving without `seal`, removes what was written.
    """

    def __init__(self, root: Path, contract: Contract, provenance: Mapping[str, Any]) -> None:
        """Begin a segment of the dataset in ``root``; ``provenance`` is JSON and becomes the group's attributes."""
        self._root = root
        self._contract = read_dataset_contract(root)
        require_match(
            contract, self._contract, who="the writer", whom=f"dataset {root}", fix="Write to another dataset"
        )
        check_cameras(self._contract)
        self.id = f"{time.time_ns():016x}-{secrets.token_hex(4)}"
        host = socket.gethostname().replace("/", "_")
        self._folder = segments_folder(root) / f".tmp-{self.id}-{host}-{os.getpid()}"
        self._records: list[EpisodeRecord] = []
        self._rows: dict[str, list[np.ndarray]] = {name: [] for name in LOW_DIMENSIONAL}
        self._open = True
        self.frames = 0
        store = self._folder / "data.zarr"
        with self._writing():
            self._folder.mkdir(parents=True)
            self._group = zarr.open_group(store, mode="w-", zarr_format=3, attributes=dict(provenance))
            images = self._group.create_group("images")
        self._shards = {c.name: ShardWriter(images, c.name, store / "images" / c.name) for c in self._contract.cameras}

    @property
    def episodes(self) -> int:
        """The number of episodes appended so far."""
        return len(self._records)

    def append(self, episode: Episode) -> str:
        """Add an episode and return its uid; one that does not fit the contract is refused and changes nothing."""
        self._require_open()
        check_episode(episode, self._contract)
        record = record_of(episode, uid=f"{self.id}-{self.episodes:06d}", start=self.frames)
        with self._writing():
            for camera, shards in self._shards.items():
                shards.append(episode.images[camera])
            for name, rows in self._rows.items():
                rows.append(np.array(getattr(episode, name)))  # a copy: the caller may reuse its buffer
            self._records.append(record)
            self.frames += len(episode)
        return record.uid

    def seal(self) -> str:
        """Write what is pending, flush everything to disk, commit, rename into place; return the segment's id."""
        self._require_open()
        if not self._records:
            raise DatasetError("a segment needs at least one episode: append one, or abandon the writer")
        final = segments_folder(self._root) / self.id
        with self._writing():
            for camera in self._contract.cameras:
                frames = self._shards[camera.name].close((camera.height, camera.width, 3))
                assert frames == self.frames, f"camera {camera.name} has {frames} frames of {self.frames}"
            self._write_rows()
            write_json(self._folder / "episodes.json", [record.to_json() for record in self._records])
            self._commit()
            os.rename(self._folder, final)
            sync_folder(final.parent)
        self._open = False
        return self.id

    def abandon(self) -> None:
        """Remove everything that was written; does nothing after `seal`."""
        if self._open:
            self._open = False
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> "SegmentWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        forgotten = self._open and kind is None and self.episodes
        self.abandon()
        if forgotten:
            raise DatasetError(
                f"{forgotten} episodes were appended but never sealed: call seal() before the block ends"
            )

    def _require_open(self) -> None:
        if not self._open:
            raise DatasetError(f"segment {self.id} is sealed or abandoned: begin a new SegmentWriter")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Around every write: a failure abandons the segment, and a full disk is explained."""
        try:
            with explain_full_disk(self._root, f"segment {self.id}"):
                yield
        except BaseException:
            self.abandon()
            raise

    def _write_rows(self) -> None:
        """The low-dimensional arrays, one chunk each; those without columns are left out."""
        for name, rows in self._rows.items():
            array = np.concatenate(rows)
            if array.size == 0:
                continue
            target = self._group.create_array(
                name,
                shape=array.shape,
                dtype=array.dtype,
                chunks=array.shape,
                compressors=ZstdCodec(level=ZSTD_LEVEL, checksum=True),
                dimension_names=("time", name)[: array.ndim],
                config={"write_empty_chunks": True},  # a missing chunk then means damage, not zeros
            )
            target[...] = array

    def _commit(self) -> None:
        """Flush every file and folder, then write the record of their sizes and checksums."""
        files = {}
        folders = [self._folder]
        for path in sorted(self._folder.rglob("*")):
            if path.is_dir():
                folders.append(path)
                continue
            data = path.read_bytes()
            name = path.relative_to(self._folder).as_posix()
            files[name] = {"bytes": len(data), "crc32c": f"{google_crc32c.value(data):08x}"}
            with path.open("rb") as file:
                os.fsync(file.fileno())
        for folder in reversed(folders):
            sync_folder(folder)
        commit = {
            "format_version": FORMAT_VERSION,
            "frames": self.frames,
            "episodes": self.episodes,
            "files": files,
            "created": now(),
        }
        write_json(self._folder / "COMMIT.json", commit)
