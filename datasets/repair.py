"""Puts a dataset in order after crashes, full disks and damage, without ever changing what is sealed.

Interrupted seals are finished, recordings recovered from their journals, sealed segments that no version lists
published, damaged ones taken out of the way into ``quarantine/`` after their intact episodes were copied.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from vla.core.errors import DatasetError
from vla.datasets.dataset import Dataset
from vla.datasets.documents import encode
from vla.datasets.episode_writer import recover
from vla.datasets.layout import Commit, read_commit, read_description, segment_name
from vla.datasets.manifest import Manifest, latest_number, manifest_name, publish_change, read_manifest
from vla.datasets.segment import SegmentWriter
from vla.datasets.staging import JOURNAL, StagedSegment, host_name, is_locked, unfinished
from vla.datasets.storage import COMMIT, LocalStorage, Location, Storage, open_storage
from vla.datasets.verify import Damage, intact_episodes, verify_segment

_STALE_S = 600.0
"""Temporary files without a lock are removed when they are older."""


@dataclass(kw_only=True)
class Repaired:
    """What was done, one sentence each, and what was left alone."""

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """What could not be saved."""
    manifest: int | None = None
    """The version that was published, if one was."""


def repair(root: Location | Storage, on_segment: Callable[[str], None] = lambda segment: None) -> Repaired:
    """Do all that can be done; run twice, the second time does nothing. Live writers are not disturbed."""
    storage = open_storage(root)
    report = Repaired()
    _restore_description(storage, report)
    finished = _finish_interrupted(storage, report)
    replaced = _salvage_damaged(storage, report, on_segment)
    _publish(storage, report, replaced, {segment.id for segment in finished})
    for segment in finished:
        segment.release()
    return report


def _restore_description(storage: Storage, report: Repaired) -> None:
    """Rebuild a missing or damaged ``dataset.json`` from the copy in a segment."""
    try:
        read_description(storage)
        return
    except DatasetError as error:
        problem = error
        if "this software reads" in str(error):
            raise
    for segment in reversed(storage.children("segments")):
        name = f"{segment_name(segment)}/dataset.json"
        try:
            commit = read_commit(storage, segment, check_sizes=False)
            if any(damage.name == "dataset.json" for damage in verify_segment(storage, segment)[1]):
                continue
            data = storage.read(name)
        except (DatasetError, FileNotFoundError):
            continue
        if "dataset.json" in commit.files:
            if "dataset.json" in storage.children(""):
                storage.move("dataset.json", f"quarantine/dataset.json-{time.time_ns()}")
            storage.put_if_absent("dataset.json", data)
            report.done.append(f"dataset.json restored from segment {segment}")
            return
    raise problem


def _finish_interrupted(storage: Storage, report: Repaired) -> list[StagedSegment]:
    """Seal what dead writers left; the segments, still locked."""
    finished = []
    for remains in unfinished(storage):
        name = remains.folder.name
        if remains.host != host_name():
            report.left.append(f"{name}: written by machine {remains.host}; run vla data repair there")
            continue
        staged = StagedSegment.adopt(storage, remains.folder)
        if staged is None:
            report.left.append(f"{name}: its writer is alive")
        elif _finish(staged, report):
            finished.append(staged)
    if storage.staging.is_dir():
        _remove_stale(storage.staging.glob(".new-*"), report)
    if isinstance(storage, LocalStorage):
        _remove_stale([*storage.root.glob(".*.json.*"), *storage.root.glob("*/.*.json.*")], report)
    return finished


def _finish(staged: StagedSegment, report: Repaired) -> bool:
    """Seal one folder of a dead writer, or remove it if nothing whole is in it; true if it became a segment."""
    folder = staged.folder
    if (folder / COMMIT).exists():
        staged.install()
        report.done.append(f"segment {staged.id}: its seal was finished")
        return True
    if (folder / JOURNAL).exists():
        try:
            uid = recover(staged)
        except (DatasetError, OSError) as error:
            report.left.append(f"{folder.name}: cannot be recovered ({error})")
            staged.leave()
            return False
        if uid is not None:
            report.done.append(f"episode {uid}: recovered from the journal of its recorder")
            return True
    staged.abandon()
    report.done.append(f"{folder.name}: removed, nothing in it was whole")
    return False


def _remove_stale(paths: Iterable[Path], report: Repaired) -> None:
    """Remove temporary files and folders of processes that died within a moment."""
    for path in paths:
        try:
            old = time.time() - path.stat().st_mtime > _STALE_S
        except FileNotFoundError:
            continue
        if old and not (path.is_dir() and is_locked(path)):
            shutil.rmtree(path) if path.is_dir() else os.unlink(path)
            report.done.append(f"{path.name}: removed, a temporary file that was left")


def _salvage_damaged(storage: Storage, report: Repaired, on_segment: Callable[[str], None]) -> dict[str, str | None]:
    """Move damaged segments to quarantine; for each the segment that holds its intact episodes, or None."""
    replaced: dict[str, str | None] = {}
    copied = _copied_elsewhere(storage)
    for segment in storage.children("segments"):
        if segment.startswith("."):
            continue
        on_segment(segment)
        try:
            commit, damage = verify_segment(storage, segment)
        except DatasetError as error:
            if _is_live(storage, segment):
                continue  # being installed at this moment
            report.lost.append(f"segment {segment}: {error}")
            replaced[segment] = None
            continue
        if damage and segment in copied:
            replaced[segment] = None
        elif damage:
            replaced[segment] = _copy_intact(storage, segment, commit, damage, report)
    return replaced


def _copied_elsewhere(storage: Storage) -> set[str]:
    """Segments whose episodes the latest version has from others."""
    readable, _ = _manifests(storage)
    latest = max(readable, key=lambda manifest: manifest.number, default=None)
    copied: set[str] = set()
    for segment in latest.segments if latest else ():
        try:
            copied |= set(read_commit(storage, segment).replaces)
        except DatasetError:
            continue
    return copied


def _copy_intact(storage: Storage, segment: str, commit: Commit, damage: list[Damage], report: Repaired) -> str | None:
    """A new segment of the episodes that the damage does not concern."""
    first = f"{damage[0].name} {damage[0].what}" + (f" and {len(damage) - 1} more" if len(damage) > 1 else "")
    intact = intact_episodes(commit, damage)
    lost = commit.episodes - len(intact)
    message = f"segment {segment}: {first}; {len(intact)} of {commit.episodes} episodes are intact"
    (report.lost if lost else report.done).append(message)
    if not intact:
        return None
    view = Dataset.of_segment(storage, segment)
    with SegmentWriter(storage, view.contract, {"repaired_from": segment}, replaces=[segment]) as writer:
        for number in intact:
            writer.copy(view.episodes[number], view.read_rows(number), view.image_files(number))
        return writer.seal()


def _publish(storage: Storage, report: Repaired, replaced: dict[str, str | None], finished: set[str]) -> None:
    """Publish a version with what was finished and without what is damaged, then move the damaged away."""
    readable, damaged = _manifests(storage)
    listed = {segment for manifest in readable for segment in manifest.segments}
    copies = {new for new in replaced.values() if new}
    orphans, superfluous = _orphans(storage, listed | set(replaced) | copies, finished)

    def change(latest: Manifest) -> Manifest:
        segments = [replaced.get(segment, segment) for segment in latest.segments]
        segments += [new for old, new in replaced.items() if old not in listed]
        return replace(latest, segments=tuple(dict.fromkeys([s for s in [*segments, *orphans] if s])))

    before = latest_number(storage)
    if damaged and before in damaged:
        after: int | None = _publish_over(storage, change, readable, before)
        report.lost.append(
            f"manifest {before} is damaged: version {after} starts from version "
            f"{max((m.number for m in readable), default=0)}; relabelling since then is lost"
        )
    elif before is None and not orphans and not replaced:
        after = None
    else:
        after = publish_change(storage, change, "repair")
    if after != before:
        report.manifest = after
        report.done += [f"segment {segment}: published" for segment in orphans]
    for number in damaged:
        storage.move(manifest_name(number), f"quarantine/{number:06d}.json-{time.time_ns()}")
        report.done.append(f"manifest {number}: moved to quarantine, it was damaged")
    for segment in [*replaced, *superfluous]:
        storage.move(segment_name(segment), f"quarantine/{segment}")
        why = "a copy that was never published" if segment in superfluous else "damaged"
        report.done.append(f"segment {segment}: moved to quarantine, {why}")


def _publish_over(storage: Storage, change: Callable[[Manifest], Manifest], readable: list[Manifest], top: int) -> int:
    """Publish after a damaged latest version, whose number is never used again."""
    empty = Manifest(number=0, parent=None, segments=(), created="", reason="")
    base = max(readable, key=lambda manifest: manifest.number, default=empty)
    changed = change(base)
    while True:
        top += 1
        if storage.put_if_absent(manifest_name(top), encode(changed.document(top, "repair"))):
            return top


def _manifests(storage: Storage) -> tuple[list[Manifest], list[int]]:
    """All versions that can be read, and the numbers of those that cannot."""
    readable, damaged = [], []
    for name in storage.children("manifests"):
        stem = name.removesuffix(".json")
        if stem.isdigit():
            try:
                readable.append(read_manifest(storage, int(stem)))
            except DatasetError:
                damaged.append(int(stem))
    return readable, damaged


def _orphans(storage: Storage, known: set[str], finished: set[str]) -> tuple[list[str], list[str]]:
    """Sealed segments that no version lists: those to publish, and copies of others, which are not needed."""
    orphans: list[str] = []
    superfluous: list[str] = []
    for segment in storage.children("segments"):
        if segment.startswith(".") or segment in known:
            continue
        if segment not in finished and _is_live(storage, segment):
            continue  # its writer is about to publish it
        commit = read_commit(storage, segment)
        (superfluous if commit.replaces else orphans).append(segment)
    return orphans, superfluous


def _is_live(storage: Storage, segment: str) -> bool:
    """Whether the writer of a segment still holds its lock."""
    return isinstance(storage, LocalStorage) and is_locked(storage.root / segment_name(segment))
