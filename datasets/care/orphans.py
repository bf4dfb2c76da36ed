"""Segments that are whole and in no version: their writer died, or is about to publish them."""

from collections.abc import Collection
from contextlib import suppress

from vla.core.errors import DatasetError
from vla.core.sealed import COMMIT
from vla.datasets.storage.storage import LocalStorage, Storage
from vla.datasets.store.layout import read_commit, segment_name
from vla.datasets.store.manifest import latest_number, publish, read_manifest
from vla.datasets.store.staging import StagedSegment, host_name, is_locked, unfinished


def unlisted(storage: Storage) -> list[str]:
    """What lies among the segments and no version lists, oldest first: whole or not, of live writers too."""
    names = [name for name in storage.children("segments") if not name.startswith(".")]
    missing, number = set(names), latest_number(storage) or 0
    while missing and number:  # the latest has most of them, so that the others are seldom read
        with suppress(DatasetError):  # damaged, or in quarantine
            missing -= set(read_manifest(storage, number).segments)
        number -= 1
    return [name for name in names if name in missing]


def is_live(storage: Storage, segment: str) -> bool:
    """Whether the writer of a segment still holds its lock; never on object stores, which have none."""
    return isinstance(storage, LocalStorage) and is_locked(storage.root / segment_name(segment))


def publish_orphans(storage: Storage, reason: str) -> int | None:
    """Finish what killed writers had committed: seal and publish it; the version, or None if there was nothing.

    Copies of segments that are published, and recordings that were not committed, are left to `repair`.
    """
    finished = _finish_committed(storage)
    try:
        ours = {staged.id for staged in finished}
        found = [segment for segment in unlisted(storage) if _is_orphan(storage, segment, ours)]
        return publish(storage, found, reason) if found else None
    finally:
        for staged in finished:
            staged.release()


def _finish_committed(storage: Storage) -> list[StagedSegment]:
    """Install the folders of dead writers that lack nothing else; still locked."""
    finished = []
    for remains in unfinished(storage):
        if remains.host != host_name() or not (remains.folder / COMMIT).exists():
            continue
        staged = StagedSegment.adopt(storage, remains.folder)
        if staged is not None:
            staged.install()
            finished.append(staged)
    return finished


def _is_orphan(storage: Storage, segment: str, ours: Collection[str]) -> bool:
    if segment not in ours and is_live(storage, segment):
        return False
    try:
        return not read_commit(storage, segment).replaces
    except DatasetError:
        return False
