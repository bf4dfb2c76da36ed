"""What a dataset looks like on disk, and the few operations that keep it whole.

    DATASET/
      dataset.json              {contract, codecs}: written once
      segments/<id>/            immutable; born as segments/.tmp-<id>-<host>-<pid>/ and renamed
        data.zarr/              Zarr v3 group, attributes = provenance
          images/<camera>/<n>   episode n: (f, y, x, c), one frame a chunk, the episode a shard
          sim_state/<n>         episode n: float64 (t, m), where it was recorded
          image_time_ns/<cam>   int64 (f,), cameras with a rate of their own, all episodes
          state, action, ...    all episodes: see `row_kinds`; one chunk each
          signals/<name>        float32 (t, g), the contract's signals, all episodes
        episodes.json           what `EpisodeRecord` says of each episode, as columns
        models/<hash>.xml       simulator models that states belong to
        dataset.json            a copy, to rebuild the dataset from any segment
        COMMIT.json             written last: {steps, episodes, files: {path: {bytes, crc32c}}, replaces, created}
      manifests/000001.json     immutable: one version of the dataset, the full list of its segments
      stats/<hash>.json         statistics of one version under one action transform
      quarantine/               what `repair` took out of the way

Everything has a checksum: each chunk its own, small files in COMMIT.json, documents at their end. A segment without a
valid COMMIT.json does not exist for any reader.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import google_crc32c
import numpy as np

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.storage.storage import COMMIT, Storage
from vla.datasets.store.documents import read_document

LOW_DIMENSIONAL: dict[str, tuple[str, bool]] = {
    "state": ("float32", True),
    "action": ("float32", True),
    "action_executed": ("float32", True),
    "reward": ("float32", False),
    "done": ("bool", False),
    "valid": ("bool", False),
    "time_ns": ("int64", False),
    "command_time_ns": ("int64", False),
}
"""What each segment holds of an `Episode`, its signals apart: {field: (dtype, whether rows are vectors)}."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def row_kinds(contract: Contract) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(dtype, shape of one row) of each low-dimensional array of a segment, by its name within ``data.zarr``.

    A vector of width 0 is not stored: Zarr has no chunks without elements.
    """
    widths = {"state": len(contract.state), "action": len(contract.action), "action_executed": len(contract.action)}
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, (dtype, vector) in LOW_DIMENSIONAL.items():
        kinds[name] = (dtype, (widths[name],) if vector else ())
    return kinds | {signal_name(name): ("float32", (len(signal),)) for name, signal in contract.signals.items()}


def rows_of(episode: Episode, contract: Contract) -> dict[str, np.ndarray]:
    """The low-dimensional arrays of an episode, by their names within ``data.zarr``."""
    if set(episode.signals) != set(contract.signals):
        raise DatasetError(
            f"signals: expected {list(contract.signals)}, got {list(episode.signals)}; give those of the contract"
        )
    rows = {name: getattr(episode, name) for name in LOW_DIMENSIONAL}
    return rows | {signal_name(name): episode.signals[name] for name in contract.signals}


def signal_name(signal: str) -> str:
    """The array of one signal, within ``data.zarr``."""
    return f"signals/{signal}"


def segment_name(segment: str) -> str:
    """Where a segment lies."""
    return f"segments/{segment}"


def image_name(camera: str, number: int) -> str:
    """The image array of episode ``number`` of a segment, within its ``data.zarr``."""
    return f"images/{camera}/{number:06d}"


def sim_state_name(number: int) -> str:
    """The simulator states of episode ``number`` of a segment, within its ``data.zarr``."""
    return f"sim_state/{number:06d}"


def now() -> str:
    """The time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, kw_only=True)
class Description:
    """What ``dataset.json`` says."""

    contract: Contract
    codecs: Mapping[str, str]
    """Codec of the frames of each camera, as new segments are written; see `vla.datasets.frames.codecs`."""


def read_description(storage: Storage) -> Description:
    """Read ``dataset.json``."""
    where = f"{storage.url}/dataset.json"
    value = read_document(
        storage,
        "dataset.json",
        missing=f"{storage.url} is no dataset: check the path, or create it with create_dataset",
        damaged="restore it from a copy; the segments are not affected",
    )
    if not isinstance(value.get("contract"), dict):
        raise DatasetError(f"{where} is damaged: it holds no contract. Restore it from a copy")
    contract = Contract.from_json(value["contract"], where=where)
    codecs = {camera.name: str(value.get("codecs", {}).get(camera.name, "zstd")) for camera in contract.cameras}
    return Description(contract=contract, codecs=codecs)


@dataclass(frozen=True, kw_only=True)
class Commit:
    """The record that makes a segment exist."""

    steps: int
    """Steps of all episodes."""
    episodes: int
    files: Mapping[str, Mapping[str, Any]]
    """Path relative to the segment: {bytes, crc32c}."""
    replaces: tuple[str, ...]
    """Segments whose episodes this one holds again (`pack`): it counts only where a manifest lists it instead."""


_FIX = "run vla data repair, restore the segment from a copy, or open an older manifest"


def read_commit(storage: Storage, segment: str, *, check_sizes: bool = True) -> Commit:
    """Read the commit record of a segment and check that its files are there, each of its recorded size."""
    folder = segment_name(segment)
    where = f"{storage.url}/{folder}/{COMMIT}"
    value = read_document(
        storage, f"{folder}/{COMMIT}", missing=f"Segment {segment} was never sealed; {_FIX}", damaged=_FIX
    )
    try:
        files = {str(k): {"bytes": int(v["bytes"]), "crc32c": str(v["crc32c"])} for k, v in value["files"].items()}
        commit = Commit(
            steps=int(value["steps"]),
            episodes=int(value["episodes"]),
            files=files,
            replaces=tuple(value.get("replaces", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{where} is damaged ({error!r}); {_FIX}") from None
    if check_sizes:
        _check_sizes(storage, folder, commit)
    return commit


def _check_sizes(storage: Storage, folder: str, commit: Commit) -> None:
    sizes = storage.sizes(folder)
    for name, entry in commit.files.items():
        if name not in sizes:
            raise DatasetError(f"{storage.url}/{folder}/{name} is missing: the segment is damaged; {_FIX}")
        if sizes[name] != entry["bytes"]:
            raise DatasetError(
                f"{storage.url}/{folder}/{name}: expected {entry['bytes']} bytes, got {sizes[name]}: "
                f"the segment is damaged; {_FIX}"
            )


def read_checked(storage: Storage, segment: str, commit: Commit, name: str) -> bytes:
    """A small file of a segment, if it is the one that the commit record names."""
    where = f"{storage.url}/{segment_name(segment)}/{name}"
    if name not in commit.files:
        raise DatasetError(f"{where} is missing in the commit record: the segment is damaged; {_FIX}")
    try:
        data = storage.read(f"{segment_name(segment)}/{name}")
    except FileNotFoundError:
        raise DatasetError(f"{where} is missing: the segment is damaged; {_FIX}") from None
    if f"{google_crc32c.value(data):08x}" != commit.files[name]["crc32c"]:
        raise DatasetError(f"{where}: the file fails its checksum; {_FIX}")
    return data


def sealed_segments(storage: Storage) -> list[str]:
    """The ids of all whole segments, oldest first, published or not."""
    found = []
    for name in storage.children("segments"):
        if name.startswith("."):
            continue
        try:
            read_commit(storage, name)
        except DatasetError:
            continue  # without a valid commit record it does not exist
        found.append(name)
    return found


@contextmanager
def explain_full_disk(storage: Storage, what: str) -> Iterator[None]:
    """Turn a full disk, quota or file size limit into a `DatasetError` that says what is safe."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        episodes = sum(read_commit(storage, segment).episodes for segment in sealed_segments(storage))
        raise DatasetError(
            f"disk full while writing {what} ({error.strerror}); "
            f"{episodes} episodes sealed before are safe; free space and run again"
        ) from error
