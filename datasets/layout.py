"""What a dataset looks like on disk, and the few operations that keep it whole.

    DATASET/
      dataset.json            {format_version, contract}: written once
      segments/<id>/          immutable; born as segments/.tmp-<id>-<host>-<pid>/ and renamed
        data.zarr/            Zarr v3 group, attributes = provenance
          images/<camera>     uint8 (t, y, x, 3), one frame a chunk, `SHARD_FRAMES` chunks a shard, zstd + checksum
          state, action, ...  see `LOW_DIMENSIONAL`: one chunk each, zstd + checksum
        episodes.json         what `EpisodeRecord` says of each episode
        COMMIT.json           written last: {format_version, frames, episodes, files: {path: {bytes, crc32c}}, created}
      manifests/000001.json   immutable: one version of the dataset, the full list of its segments

A segment without a valid COMMIT.json does not exist for any reader.
"""

import errno
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.files import sync_folder

FORMAT_VERSION = "1.0"

SHARD_FRAMES = 256
"""Frames in one shard file. Zarr's shard grid is regular and cannot follow episodes of unequal length, so a shard holds
a fixed number of consecutive frames: small enough to buffer, large enough that a file is worth opening."""

ZSTD_LEVEL = 3

LOW_DIMENSIONAL: dict[str, tuple[str, bool]] = {
    "state": ("float32", True),
    "action": ("float32", True),
    "action_executed": ("float32", True),
    "reward": ("float32", False),
    "done": ("bool", False),
    "valid": ("bool", False),
    "time_ns": ("int64", False),
    "command_time_ns": ("int64", False),
    "grounding": ("float32", True),
}
"""Name: (dtype, whether rows are vectors). A vector of width 0 is not stored: Zarr has no chunks without elements."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def widths(contract: Contract) -> dict[str, int]:
    """The number of columns of each vector array."""
    action = len(contract.action)
    return {
        "state": len(contract.state),
        "action": action,
        "action_executed": action,
        "grounding": len(contract.grounding),
    }


def segments_folder(root: Path) -> Path:
    """Where the segments lie."""
    return root / "segments"


def manifests_folder(root: Path) -> Path:
    """Where the manifests lie."""
    return root / "manifests"


def now() -> str:
    """The time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def read_object(path: Path, *, missing: str, damaged: str) -> dict[str, Any]:
    """Read one JSON object of a known format version; ``missing`` and ``damaged`` say how to fix either."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DatasetError(f"{path} does not exist. {missing}") from None
    except ValueError as error:
        raise DatasetError(f"{path} is damaged: {error}. {damaged}") from None
    if not isinstance(value, dict):
        raise DatasetError(f"{path} is damaged: expected a JSON object, got {type(value).__name__}. {damaged}")
    _check_version(value.get("format_version"), path)
    return value


def _check_version(version: object, path: Path) -> None:
    """Refuse a major version that this software does not know."""
    if not isinstance(version, str) or not re.fullmatch(r"\d+\.\d+", version):
        raise DatasetError(f"{path}: expected a format_version such as {FORMAT_VERSION!r}, got {version!r}")
    if int(version.split(".")[0]) != int(FORMAT_VERSION.split(".")[0]):
        raise DatasetError(
            f"{path}: format version {version}, this software reads {FORMAT_VERSION.split('.')[0]}.x; "
            "use a version of vla that reads it"
        )


def put_if_absent(path: Path, value: object) -> bool:
    """Write ``value`` as JSON unless ``path`` exists; false if it does. Readers see all of it or nothing."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        try:
            os.link(name, path)  # unlike a rename, a link never replaces what another process put there
        except FileExistsError:
            return False
    finally:
        Path(name).unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def read_dataset_contract(root: Path) -> Contract:
    """The contract in ``dataset.json``."""
    path = root / "dataset.json"
    value = read_object(
        path,
        missing=f"{root} is no dataset: check the path, or create it with create_dataset",
        damaged="restore it from a copy; the segments are not affected",
    )
    if not isinstance(value.get("contract"), dict):
        raise DatasetError(f"{path} is damaged: it holds no contract. Restore it from a copy")
    return Contract.from_json(value["contract"], where=str(path))


@dataclass(frozen=True, kw_only=True)
class Commit:
    """The record that makes a segment exist."""

    frames: int
    episodes: int
    files: dict[str, tuple[int, int]]
    """Path relative to the segment: (bytes, crc32c)."""


def read_commit(root: Path, segment: str) -> Commit:
    """Read the commit record of a segment and check that its files are there, each of its recorded size."""
    folder = segments_folder(root) / segment
    fix = "remove it with a new manifest, or restore it from a copy"
    value = read_object(folder / "COMMIT.json", missing=f"Segment {segment} was never sealed; {fix}", damaged=fix)
    try:
        files = {str(k): (int(v["bytes"]), int(v["crc32c"], 16)) for k, v in value["files"].items()}
        commit = Commit(frames=int(value["frames"]), episodes=int(value["episodes"]), files=files)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{folder / 'COMMIT.json'} is damaged ({error!r}); {fix}") from None
    for name, (size, _) in commit.files.items():
        try:
            found = (folder / name).stat().st_size
        except FileNotFoundError:
            raise DatasetError(f"{folder / name} is missing: segment {segment} is damaged; {fix}") from None
        if found != size:
            raise DatasetError(f"{folder / name}: expected {size} bytes, got {found}: segment is damaged; {fix}")
    return commit


def sealed_segments(root: Path) -> list[str]:
    """The ids of all whole segments, oldest first, published or not."""
    folder = segments_folder(root)
    if not folder.is_dir():
        return []
    found = []
    for name in sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(".")):
        try:
            read_commit(root, name)
        except DatasetError:
            continue  # without a valid commit record it does not exist
        found.append(name)
    return found


@contextmanager
def explain_full_disk(root: Path, what: str) -> Iterator[None]:
    """Turn a full disk, quota or file size limit into a `DatasetError` that says what is safe."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        episodes = sum(read_commit(root, segment).episodes for segment in sealed_segments(root))
        raise DatasetError(
            f"disk full while writing {what} ({error.strerror}); "
            f"{episodes} episodes sealed before are safe; free space and run again"
        ) from error
