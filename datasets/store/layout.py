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
      manifests/000001.json     immutable: one version of the dataset, the full list of its segments and their digests
      witness/000001.json       written after it: that there was such a version, should its manifest vanish
      stats/<hash>.json         statistics of one version under one action transform
      quarantine/               what `repair` took out of the way

Everything has a checksum: each chunk its own, small files in COMMIT.json, documents at their end. A segment without a
valid COMMIT.json does not exist for any reader.
"""

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import google_crc32c
import numpy as np

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.sealed import COMMIT, DamageError, Entry, digest, listed, parse_files, table, text, whole
from vla.core.types import Episode
from vla.datasets.storage.storage import NO_FILE, Storage
from vla.datasets.store.documents import decode, parsed, read_raw, segment_id

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

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
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


def wrong_rows(name: str, rows: np.ndarray) -> np.ndarray:
    """Which rows (t,) of a low-dimensional array hold a number that none may be.

    None may be infinite, and only a signal may be NaN: it is not known there, and teaches nothing.
    """
    wrong = np.isinf(rows) if name.startswith(signal_name("")) else ~np.isfinite(rows)
    return np.asarray(wrong.any(axis=tuple(range(1, rows.ndim))))


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
    missing = f"{storage.url} is no dataset: check the path, or create it with create_dataset"
    return parse_description(storage, "dataset.json", read_raw(storage, "dataset.json", missing=missing))


def parse_description(storage: Storage, name: str, data: bytes) -> Description:
    """What a ``dataset.json`` says."""
    where, fix = f"{storage.url}/{name}", "restore it from a copy; the segments are not affected"
    value = decode(storage, name, data, damaged=fix)
    if not isinstance(value.get("contract"), dict):
        raise DatasetError(f"{where} is damaged: it holds no contract; {fix}")
    contract, codecs = parsed(where, value, _parse_description, fix=fix)
    read = Contract.from_json(contract, where=where)
    check_names(read)
    return Description(contract=read, codecs={camera.name: codecs.get(camera.name, "zstd") for camera in read.cameras})


def _parse_description(value: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    codecs = table(value.get("codecs", {}), "codecs")
    return table(value.get("contract"), "contract"), {camera: codec_name(codec) for camera, codec in codecs.items()}


def codec_name(value: object) -> str:
    """The name of a frame codec in a document: never ``module:Name``, which would be imported."""
    if not _NAME.fullmatch(text(value, "codecs")):
        raise DamageError(f"codecs: {str(value)[:40]!r} is no name of one")
    return str(value)


def check_names(contract: Contract) -> None:
    """Raise `DatasetError` unless the name of every camera and signal can be that of a Zarr array and a folder."""
    names = [
        *(("camera", camera.name) for camera in contract.cameras),
        *(("signal", name) for name in contract.signals),
    ]
    for kind, name in names:
        if not _NAME.fullmatch(name) or name == "zarr.json":
            raise DatasetError(
                f"{kind} {name!r}: expected at most 200 letters, digits, '_', '-' and '.', a letter or digit first; "
                "rename it in the contract"
            )


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What ``COMMIT.json`` says of a segment."""

    steps: int
    """Steps of all episodes."""
    episodes: int
    files: Mapping[str, Entry]
    """Path relative to the segment: its size and checksum."""
    replaces: tuple[str, ...] = ()
    """Segments whose episodes this one holds again (`pack`): it counts only where a manifest lists it instead."""
    digest: str = ""
    """Of the record itself, and so of all in the segment: by it a manifest names the segment."""


_FIX = "run vla data repair, restore the segment from a copy, or open an older manifest"


def read_commit(storage: Storage, segment: str, *, check_sizes: bool = True, expected: str | None = None) -> Commit:
    """Read the commit record of a segment and check that its files are there, each of its recorded size.

    ``expected`` is the digest by which a manifest names it; another is a `DatasetError`.
    """
    folder = segment_name(segment)
    name = f"{folder}/{COMMIT}"
    data = read_raw(storage, name, missing=f"Segment {segment} was never sealed; {_FIX}")
    value = decode(storage, name, data, damaged=_FIX)
    commit = parsed(f"{storage.url}/{name}", value, lambda value: _parse_commit(value, digest(data)), fix=_FIX)
    if expected is not None and commit.digest != expected:
        raise ForeignSegmentError(
            f"{storage.url}/{name} is whole, but not the one that the manifest lists as {segment}: "
            f"the segment was swapped or replaced; {_FIX}"
        )
    if check_sizes:
        _check_sizes(storage, folder, commit)
    return commit


class ForeignSegmentError(DatasetError):
    """A segment lies under the name of another."""


def _parse_commit(value: dict[str, Any], digest: str) -> Commit:
    steps, episodes = (whole(value.get(key), key) for key in ("steps", "episodes"))
    if steps < episodes:
        raise DamageError(f"{episodes} episodes of {steps} steps in all")
    return Commit(
        steps=steps,
        episodes=episodes,
        files=parse_files(value.get("files")),
        replaces=listed(value.get("replaces", []), "replaces", segment_id),
        digest=digest,
    )


def _check_sizes(storage: Storage, folder: str, commit: Commit) -> None:
    sizes = storage.sizes(folder)
    for name, entry in commit.files.items():
        where = f"{storage.url}/{folder}/{name}"
        if name not in sizes:
            raise DatasetError(f"{where} is missing: the segment is damaged; {_FIX}")
        if sizes[name] == NO_FILE:
            raise DatasetError(f"{where}: expected a file, got a link or a device; {_FIX}")
        if sizes[name] != entry.bytes:
            raise DatasetError(
                f"{where}: expected {entry.bytes} bytes, got {sizes[name]}: the segment is damaged; {_FIX}"
            )


def read_checked(storage: Storage, segment: str, commit: Commit, name: str) -> bytes:
    """A small file of a segment, if it is the one that the commit record names."""
    where = f"{storage.url}/{segment_name(segment)}/{name}"
    if name not in commit.files:
        raise DatasetError(f"{where} is missing in the commit record: the segment is damaged; {_FIX}")
    try:
        data = storage.read(f"{segment_name(segment)}/{name}", 0, commit.files[name].bytes + 1)
    except FileNotFoundError:
        raise DatasetError(f"{where} is missing: the segment is damaged; {_FIX}") from None
    if (len(data), f"{google_crc32c.value(data):08x}") != commit.files[name]:
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
