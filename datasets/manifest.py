"""Manifests: the numbered, immutable versions of a dataset."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vla.core.errors import DatasetError
from vla.datasets.layout import (
    FORMAT_VERSION,
    explain_full_disk,
    manifests_folder,
    now,
    put_if_absent,
    read_commit,
    read_dataset_contract,
    read_object,
)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One version of a dataset: the full list of its segments, in order."""

    number: int
    parent: int | None
    segments: tuple[str, ...]
    created: str
    reason: str


def latest_number(root: Path) -> int | None:
    """The highest manifest number, or ``None`` before the first `publish`."""
    folder = manifests_folder(root)
    if not folder.is_dir():
        return None
    names = (re.fullmatch(r"(\d{6,})\.json", entry.name) for entry in folder.iterdir())
    return max((int(name[1]) for name in names if name), default=None)


def manifest_path(root: Path, number: int) -> Path:
    """The file of one manifest."""
    return manifests_folder(root) / f"{number:06d}.json"


def read_manifest(root: Path, number: int | None = None) -> Manifest:
    """Read one manifest, the latest if ``number`` is ``None``."""
    if number is None:
        number = latest_number(root)
    if number is None:
        raise DatasetError(f"{root} holds no manifest: nothing has been published; collect or import episodes first")
    path = manifest_path(root, number)
    value = read_object(
        path,
        missing=f"The latest manifest of {root} is {latest_number(root)}",
        damaged=f"Open an older version (manifest={number - 1}), or delete the file and publish the segments again",
    )
    try:
        return Manifest(
            number=int(value["number"]),
            parent=None if value["parent"] is None else int(value["parent"]),
            segments=tuple(str(segment) for segment in value["segments"]),
            created=str(value["created"]),
            reason=str(value["reason"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path} is damaged ({error!r}); open an older version (manifest={number - 1})") from None


def publish(root: Path, segment_ids: Sequence[str], reason: str) -> int:
    """Add sealed segments to the dataset as a new manifest and return its number.

    Safe with any number of publishers: one that loses the race for a number reads the winner's list and tries the
    next. Segments that are listed already are not listed twice; if all are, the latest number is returned.
    """
    if not segment_ids:
        raise DatasetError("publish needs at least one segment id")
    read_dataset_contract(root)
    for segment in segment_ids:
        read_commit(root, segment)
    while True:
        latest = None if latest_number(root) is None else read_manifest(root)
        listed = latest.segments if latest else ()
        segments = tuple(dict.fromkeys([*listed, *segment_ids]))
        if latest and segments == listed:
            return latest.number
        number = latest.number + 1 if latest else 1
        value = {
            "format_version": FORMAT_VERSION,
            "number": number,
            "parent": latest.number if latest else None,
            "segments": segments,
            "created": now(),
            "reason": reason,
        }
        with explain_full_disk(root, f"manifest {number}"):
            if put_if_absent(manifest_path(root, number), value):
                return number
