"""Checksums of whole segments: which files of one are damaged, and which episodes can still be trusted."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import google_crc32c

from vla.core.errors import DatasetError
from vla.core.files import NotPlainError, plain_path
from vla.core.sealed import COMMIT, MOST_BYTES, Entry
from vla.datasets.storage.storage import NO_FILE, Storage
from vla.datasets.store.layout import Commit, read_commit, segment_name
from vla.datasets.store.records import EpisodeIndex

_EPISODE = re.compile(r"data\.zarr/(?:images/[^/]+|sim_state)/(\d{6})/")
_MODEL = re.compile(r"models/([0-9a-f]+)\.xml")
_GROUP = re.compile(r"data\.zarr(/images|/images/[^/]+|/image_time_ns|/signals|/sim_state)?/zarr\.json")
_PART = 2**24
_ENTRY = re.compile(rb'"([^"\n]+)": \{\s*"bytes": ([0-9]{1,18}),\s*"crc32c": "([0-9a-f]{8})"\s*\}')


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One file of a segment that is not what its commit record says."""

    name: str
    """Relative to the segment."""
    what: str

    @property
    def harmless(self) -> bool:
        """Whether nothing of any episode is in it: metadata of a group, which holds provenance, or a copy."""
        return bool(_GROUP.fullmatch(self.name)) or self.name in ("dataset.json", COMMIT)

    def concerns(self, number: int, model: str) -> bool:
        """Whether it is the episode of this number in its segment, with this simulator model, that is damaged."""
        if self.harmless:
            return False
        episode, mine = _EPISODE.match(self.name), _MODEL.fullmatch(self.name)
        if episode or mine:
            return bool(episode and int(episode[1]) == number) or bool(mine and mine[1] == model)
        return True


def verify_segment(
    storage: Storage,
    segment: str,
    on_file: Callable[[int], None] = lambda size: None,
    *,
    expected: str | None = None,
) -> tuple[Commit, list[Damage]]:
    """Compare every file of a segment with its commit record; a damaged record itself is a `DatasetError`.

    So is a record of another digest than ``expected``. ``on_file`` is called with the bytes of each file.
    """
    commit = read_commit(storage, segment, check_sizes=False, expected=expected)
    return commit, _compare(storage, segment, commit, on_file)


def _compare(
    storage: Storage, segment: str, commit: Commit, on_file: Callable[[int], None] = lambda size: None
) -> list[Damage]:
    found, sizes = [], storage.sizes(segment_name(segment))
    for name, entry in commit.files.items():
        size = sizes.get(name)
        if size is None:
            found.append(Damage(name=name, what="is missing"))
        elif size == NO_FILE:
            found.append(Damage(name=name, what="is a link or a device, not a file"))
        elif size != entry.bytes:
            found.append(Damage(name=name, what=f"has {size} bytes, expected {entry.bytes}"))
        elif _sum(storage, f"{segment_name(segment)}/{name}", entry.bytes) != entry.crc32c:
            found.append(Damage(name=name, what="fails its checksum"))
        on_file(entry.bytes)
    return found


def _sum(storage: Storage, name: str, size: int) -> str:
    """The crc32c of a file; a shard of an hour's recording is not read into RAM at once."""
    checksum = 0
    for start in range(0, size, _PART):
        checksum = google_crc32c.extend(checksum, storage.read(name, start, _PART))
    return f"{checksum:08x}"


def verify_without_record(storage: Storage, segment: str) -> tuple[Commit, list[Damage]]:
    """As `verify_segment`, for a commit record that fails its own checksum: entries that can be read in it still count.

    A checksum that fits its file has not changed by accident; files without such an entry are damaged.
    """
    where = f"{storage.url}/{segment_name(segment)}"
    try:
        text, records = (
            storage.read(f"{segment_name(segment)}/{name}", 0, MOST_BYTES + 1) for name in (COMMIT, "episodes.json")
        )
    except FileNotFoundError as error:
        raise DatasetError(f"{where}: {error}; nothing can be trusted") from None
    files = {}
    for path, size, checksum in _ENTRY.findall(text):
        with suppress(NotPlainError):
            files[plain_path(path.decode(errors="replace"))] = Entry(int(size), checksum.decode())
    index = EpisodeIndex.build([(where, records)])
    believed = Commit(steps=int(index.lengths.sum()), episodes=len(index), files=files)
    unknown = set(storage.sizes(segment_name(segment))) - set(files) - {COMMIT}
    damage = [Damage(name=COMMIT, what="fails its checksum"), *_compare(storage, segment, believed)]
    return believed, damage + [Damage(name=name, what="is not in the commit record") for name in sorted(unknown)]


def stray_files(storage: Storage, segment: str, commit: Commit) -> list[str]:
    """Files in a segment that its commit record does not name."""
    return sorted(set(storage.sizes(segment_name(segment))) - set(commit.files) - {COMMIT})


def intact_episodes(index: EpisodeIndex, damage: Sequence[Damage]) -> list[int]:
    """The episodes of a segment's index that no damage concerns, by their number."""
    models = [str(index.extra(number).get("model", "")) for number in range(len(index))]
    return [n for n, model in enumerate(models) if not any(one.concerns(n, model) for one in damage)]
