"""Checksums of whole segments: which files of one are damaged, and which episodes can still be trusted."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import google_crc32c

from vla.core.errors import DatasetError
from vla.datasets.layout import Commit, read_commit, segment_name
from vla.datasets.storage import COMMIT, Storage

_EPISODE = re.compile(r"data\.zarr/(?:images/[^/]+|sim_state)/(\d{6})/")
_GROUP = re.compile(r"data\.zarr(/images|/images/[^/]+|/image_time_ns|/sim_state)?/zarr\.json")


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One file of a segment that is not what its commit record says."""

    name: str
    """Relative to the segment."""
    what: str

    @property
    def episode(self) -> int | None:
        """The only episode of the segment that it concerns; None if it concerns more."""
        match = _EPISODE.match(self.name)
        return int(match[1]) if match else None

    @property
    def harmless(self) -> bool:
        """Whether nothing of any episode is in it: metadata of a group, which holds provenance, or a copy."""
        return bool(_GROUP.fullmatch(self.name)) or self.name == "dataset.json"


def verify_segment(
    storage: Storage, segment: str, on_file: Callable[[int], None] = lambda size: None
) -> tuple[Commit, list[Damage]]:
    """Compare every file of a segment with its commit record; a damaged record itself is a `DatasetError`.

    ``on_file`` is called with the bytes of each file.
    """
    commit = read_commit(storage, segment, check_sizes=False)
    folder = segment_name(segment)
    found = []
    for name, entry in commit.files.items():
        try:
            data = storage.read(f"{folder}/{name}")
        except FileNotFoundError:
            found.append(Damage(name=name, what="is missing"))
            continue
        if len(data) != entry["bytes"]:
            found.append(Damage(name=name, what=f"has {len(data)} bytes, expected {entry['bytes']}"))
        elif f"{google_crc32c.value(data):08x}" != entry["crc32c"]:
            found.append(Damage(name=name, what="fails its checksum"))
        on_file(int(entry["bytes"]))
    return commit, found


def stray_files(storage: Storage, segment: str, commit: Commit) -> list[str]:
    """Files in a segment that its commit record does not name."""
    return sorted(set(storage.sizes(segment_name(segment))) - set(commit.files) - {COMMIT})


def intact_episodes(commit: Commit, damage: Sequence[Damage]) -> list[int]:
    """The episodes of a segment that no damage concerns, by their number."""
    real = [one for one in damage if not one.harmless]
    if any(one.episode is None for one in real):
        return []
    bad = {one.episode for one in real}
    return [number for number in range(commit.episodes) if number not in bad]


def is_whole(storage: Storage, segment: str) -> bool:
    """Whether every file of a segment is what its commit record says."""
    try:
        return not verify_segment(storage, segment)[1]
    except DatasetError:
        return False
