"""What a recorder writes ahead and keeps in RAM of one episode, frames aside, and the segment that it becomes.

The journal is a write-ahead log: one checksummed JSON line for each thing that happened, appended as it happens. A line
that was cut short or damaged ends it: what stands before it is whole. The first line says what the episode is about,
each other one gives a step, or the time of a frame, and the size and crc32c of the frames that came with it.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.files import write_all
from vla.core.log import checked_line, read_lines
from vla.core.sealed import DamageError, listed, table, text, whole
from vla.core.types import Episode
from vla.datasets.frames.codecs import frame_codec
from vla.datasets.frames.shard_writer import ShardWriter, owner_of
from vla.datasets.store.content import PictureDigest, content_hash
from vla.datasets.store.layout import LOW_DIMENSIONAL, codec_name, read_description, row_kinds, signal_name
from vla.datasets.store.segment import SegmentBuilder, image_array
from vla.datasets.store.staging import JOURNAL, StagedSegment, require_own

_MOST_FRAME = 2**28
"""Bytes of one packed frame."""


class Journal:
    """Appends entries to a log."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def append(self, entry: dict[str, Any]) -> None:
        """Add an entry; it is in the file, though not flushed to disk, when this returns."""
        write_all(self._file, checked_line(entry))

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a log up to the first that is not whole."""
    return (entry for _, entry in read_lines(path))


@dataclass(kw_only=True)
class Recording:
    """What was recorded of an episode so far, beside its frames: kept in RAM, and rebuilt from a journal."""

    about: dict[str, Any]
    """The journal's first entry: instruction, task, split, seed, provenance, model, codecs."""
    steps: list[Mapping[str, Any]] = field(default_factory=list)
    """Rows of the low-dimensional arrays, and of the simulator's state if any; lists where a journal gave them."""
    frame_times: dict[str, list[int]] = field(default_factory=dict)
    """Of the cameras with a rate of their own."""
    pictures: dict[str, PictureDigest] = field(default_factory=lambda: defaultdict(PictureDigest))
    """Of every camera's frames: as they came, or as they lie in the shard where a journal gave them."""

    def episode(self, contract: Contract, success: bool | None) -> Episode:
        """As an episode without images."""
        columns = {}
        for name, (dtype, shape) in row_kinds(contract).items():
            columns[name] = np.array([step[name] for step in self.steps], dtype).reshape(len(self.steps), *shape)
        states = [step["sim_state"] for step in self.steps if "sim_state" in step]
        return Episode(
            images={},
            image_time_ns={camera: np.array(times, np.int64) for camera, times in self.frame_times.items()},
            **{name: columns[name] for name in LOW_DIMENSIONAL},
            signals={name: columns[signal_name(name)] for name in contract.signals},
            instruction=self.about["instruction"],
            instruction_alternatives=tuple(self.about["instruction_alternatives"]),
            task=self.about["task"],
            split=self.about["split"],
            seed=self.about["seed"],
            success=success,
            questions=(),
            sim_state=np.array(states, np.float64) if states and len(states) == len(self.steps) else None,
            model=self.about["model"],
            provenance=self.about["provenance"],
        )


def seal_recording(
    staged: StagedSegment,
    contract: Contract,
    shards: Mapping[str, ShardWriter],
    recording: Recording,
    success: bool | None,
) -> str:
    """Make a segment of the shards and the rest of a recording; its uid."""
    episode = recording.episode(contract, success)
    builder = SegmentBuilder(staged, contract, recording.about["segment_provenance"])
    content = content_hash(episode, {camera: recording.pictures[camera].hexdigest() for camera in shards})
    try:
        for camera, shard in shards.items():
            shard.close(owner_of(content, camera))
    finally:
        for shard in shards.values():
            shard.abandon()
    uid = builder.add(episode, content)
    builder.seal()
    return uid


def recover(staged: StagedSegment) -> str | None:
    """Seal what a dead recorder left, up to its last whole step; its uid, or None if it had none.

    The episode is marked ``recovered`` in its provenance, and its success is unknown.
    """
    require_own(staged.folder)
    contract = read_description(staged.storage).contract
    path = staged.folder / JOURNAL
    entries = read_journal(path)
    about = next(entries, None)
    if about is None:
        return None
    try:
        _check_about(about, contract)
        recording, sizes = _replay(staged.folder, contract, about, entries)
        if not recording.steps:
            return None
        recording.about["provenance"] = {"recovered": True}
        recording.episode(contract, None)
    except (DamageError, KeyError, TypeError, ValueError, OverflowError) as error:  # whole, and not of our recorder
        raise DatasetError(f"{path} is damaged: {' '.join(str(error).split())[:200]}; it is left alone") from None
    shards = {}
    for camera in contract.cameras:
        array = image_array(staged.folder, camera.name, 0)
        shards[camera.name] = ShardWriter(array, camera, about["codecs"][camera.name])
        shards[camera.name].resume(sizes[camera.name])
    return seal_recording(staged, contract, shards, recording, None)


def _check_about(about: dict[str, Any], contract: Contract) -> None:
    """Raise `DamageError` unless the first entry says all that a segment is made of."""
    for key in ("instruction", "task", "split", "model"):
        text(about.get(key), key)
    listed(about.get("instruction_alternatives"), "instruction_alternatives", text)
    whole(about.get("seed"), "seed", least=-(2**63))
    table(about.get("segment_provenance"), "segment_provenance")
    codecs = table(about.get("codecs"), "codecs")
    for camera in contract.cameras:
        frame_codec(codec_name(codecs.get(camera.name)), camera)


def _replay(
    folder: Path, contract: Contract, about: dict[str, Any], entries: Iterator[dict[str, Any]]
) -> tuple[Recording, dict[str, list[int]]]:
    """The whole steps of a journal, and the sizes of the frames that belong to them."""
    own_clock = [camera.name for camera in contract.cameras if camera.hz is not None]
    recording = Recording(about=about, frame_times={name: [] for name in own_clock})
    sizes: dict[str, list[int]] = {camera.name: [] for camera in contract.cameras}
    paths = {name: image_array(folder, name, 0) / "c/0/0/0/0" for name in sizes}
    if not all(path.exists() for path in paths.values()):
        return recording, sizes  # it died before it began
    files = {name: path.open("rb") for name, path in paths.items()}
    try:
        for entry in entries:
            chunks = {name: files[name].read(_frame_size(size)) for name, (size, _) in entry["frames"].items()}
            if any(google_crc32c.value(chunks[name]) != crc for name, (_, crc) in entry["frames"].items()):
                break  # its bytes had not reached the disk
            for name, (size, _) in entry["frames"].items():
                sizes[name].append(size)
                recording.pictures[name].add(np.frombuffer(chunks[name], np.uint8))
            if "step" in entry:
                recording.steps.append(entry["step"])
            else:
                (name,) = entry["frames"]
                recording.frame_times[name].append(entry["time_ns"])
    finally:
        for file in files.values():
            file.close()
    return recording, sizes


def _frame_size(size: object) -> int:
    """What a journal says that one frame takes."""
    if whole(size, "size of a frame", least=1) > _MOST_FRAME:
        raise DamageError(f"a frame of {size} bytes")
    assert isinstance(size, int)
    return size
