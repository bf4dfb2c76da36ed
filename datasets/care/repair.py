"""Puts a dataset in order after crashes, full disks and damage, without ever changing what is sealed.

Interrupted seals are finished, recordings recovered from their journals, sealed segments that no version lists
published, damaged ones taken out of the way into ``quarantine/`` after their intact episodes were copied.
"""

import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vla.core.errors import DatasetError
from vla.core.sealed import COMMIT
from vla.datasets.care.misplaced import put_back
from vla.datasets.care.orphans import is_live, unlisted
from vla.datasets.care.salvage import Versions, salvage
from vla.datasets.recorder.journal import recover
from vla.datasets.storage.storage import LocalStorage, Location, Storage, open_storage
from vla.datasets.store.documents import FormatVersionError
from vla.datasets.store.layout import parse_description, read_checked, read_commit, read_description, segment_name
from vla.datasets.store.manifest import (
    Manifest,
    latest_number,
    manifest_name,
    publish_change,
    put_manifest,
    put_witness,
    vanished,
    with_digests,
    witness_name,
)
from vla.datasets.store.staging import JOURNAL, StagedSegment, alone, host_name, is_locked, unfinished

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


def repair(
    root: Location | Storage,
    on_segment: Callable[[str], None] = lambda segment: None,
    hosts: Collection[str] = (),
) -> Repaired:
    """Do all that can be done; run twice, the second time does nothing. Live writers are not disturbed.

    ``hosts`` names machines that are gone, whose unfinished recordings are recovered here. On a local disk only one
    repair or `pack` runs at a time, another is a `DatasetError`; so is a dataset that a newer version of vla wrote.
    """
    storage = open_storage(root)
    report = Repaired()
    with alone(storage, "repair"):
        _restore_description(storage, report)
        Versions.read(storage)  # nothing is touched where another version of vla must repair
        finished = _finish_interrupted(storage, report, {host_name(), *hosts})
        try:
            versions = Versions.read(storage)
            put_back(storage, versions, report.done)
            replaced = _salvage_damaged(storage, versions, report, on_segment)
            _publish(storage, report, versions, replaced, {segment.id for segment in finished})
        finally:
            for segment in finished:
                segment.release()
    return report


def _restore_description(storage: Storage, report: Repaired) -> None:
    """Rebuild a missing or damaged ``dataset.json`` from the copy in a segment."""
    try:
        read_description(storage)
        return
    except FormatVersionError:
        raise
    except DatasetError as error:
        problem = error
    for segment in reversed(storage.children("segments")):
        try:
            data = read_checked(storage, segment, read_commit(storage, segment, check_sizes=False), "dataset.json")
            parse_description(storage, "dataset.json", data)
        except DatasetError:
            continue
        if "dataset.json" in storage.children(""):
            storage.move("dataset.json", f"quarantine/dataset.json-{time.time_ns()}")
        storage.put_if_absent("dataset.json", data)
        report.done.append(f"dataset.json restored from segment {segment}")
        return
    raise problem


def _finish_interrupted(storage: Storage, report: Repaired, hosts: Collection[str]) -> list[StagedSegment]:
    """Seal what dead writers left; the segments, still locked."""
    finished = []
    for remains in unfinished(storage):
        name = remains.folder.name
        if remains.host not in hosts:
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
        _remove_stale([*storage.root.glob(".*.json.*"), *storage.root.glob("manifests/.*.json.*")], report)
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
            found = path.lstat()
        except FileNotFoundError:
            continue
        folder = stat.S_ISDIR(found.st_mode)  # a link is taken away itself, and not what it points to
        if time.time() - found.st_mtime > _STALE_S and not (folder and is_locked(path)):
            shutil.rmtree(path) if folder else os.unlink(path)
            report.done.append(f"{path.name}: removed, a temporary file that was left")


def _salvage_damaged(
    storage: Storage, versions: Versions, report: Repaired, on_segment: Callable[[str], None]
) -> dict[str, tuple[str, ...]]:
    """What takes the place of each damaged segment."""
    replaced: dict[str, tuple[str, ...]] = {}
    for segment in storage.children("segments"):
        if segment.startswith(".") or (segment not in versions.listed and _is_coming(storage, segment, report)):
            continue
        on_segment(segment)
        found = salvage(storage, segment, versions)
        if found is not None:
            replaced[segment] = found.instead
            (report.lost if found.lost else report.done).append(f"segment {segment}: {found.what}")
    return replaced


def _is_coming(storage: Storage, segment: str, report: Repaired) -> bool:
    """Whether a segment without a commit record may be on its way to an object store: no reader sees it until then."""
    if isinstance(storage, LocalStorage) or COMMIT in storage.children(segment_name(segment)):
        return False
    report.left.append(f"segment {segment}: its upload goes on, or was cut short; delete it if nobody writes")
    return True


def _publish(
    storage: Storage,
    report: Repaired,
    versions: Versions,
    replaced: Mapping[str, tuple[str, ...]],
    finished: Collection[str],
) -> None:
    """Publish a version with what was finished and without what is damaged, then move the damaged away."""
    copies = {segment for instead in replaced.values() for segment in instead}
    orphans, superfluous = _orphans(storage, {*replaced, *copies}, finished)

    def change(latest: Manifest) -> Manifest:
        segments = [new for segment in latest.segments for new in replaced.get(segment, (segment,))]
        segments += [new for old, instead in replaced.items() if old not in versions.listed for new in instead]
        return replace(latest, segments=tuple(dict.fromkeys([*segments, *orphans])))

    gone, before = vanished(storage), latest_number(storage)
    if gone or before in versions.damaged:
        top = gone or before or 0
        report.manifest = _publish_over(storage, with_digests(storage, change(versions.latest)), top)
        report.lost.append(
            f"manifest {top} is {'gone' if gone else 'damaged'}: version {report.manifest} starts from version "
            f"{versions.latest.number}; what was relabelled or dropped since then is so no more"
        )
    elif before is not None or orphans or copies:
        after = publish_change(storage, change, "repair")
        report.manifest = after if after != before else None
    if report.manifest is not None:
        report.done += [f"segment {segment}: published" for segment in orphans]
    witnesses = set(storage.children("witness"))
    for manifest in versions.readable:  # a publisher died a moment too early, or did not know of witnesses
        if witness_name(manifest.number).partition("/")[2] not in witnesses:
            put_witness(storage, manifest.number)
    for number in versions.damaged:
        _put_aside(storage, manifest_name(number), f"{number:06d}.json", report, "it was damaged")
    for segment in replaced:
        _put_aside(storage, segment_name(segment), segment, report, "it was damaged")
    for segment in superfluous:
        if isinstance(storage, LocalStorage):
            _put_aside(storage, segment_name(segment), segment, report, "a copy that was never published")
        else:
            report.left.append(f"segment {segment}: a copy that somebody is about to publish, or never did")


def _publish_over(storage: Storage, changed: Manifest, top: int) -> int:
    """Publish after a damaged latest version, whose number is never used again."""
    while True:
        top += 1
        if put_manifest(storage, changed, top, "repair"):
            return top


def _put_aside(storage: Storage, name: str, short: str, report: Repaired, why: str) -> None:
    """Move something to quarantine."""
    target = short if short not in storage.children("quarantine") else f"{short}-{time.time_ns()}"
    storage.move(name, f"quarantine/{target}")
    report.done.append(f"{name}: moved to quarantine/{target}, {why}")


def _orphans(storage: Storage, known: Collection[str], finished: Collection[str]) -> tuple[list[str], list[str]]:
    """Sealed segments that no version lists: those to publish, and copies of others, which are not needed."""
    orphans: list[str] = []
    superfluous: list[str] = []
    for segment in unlisted(storage):
        if segment in known or (segment not in finished and is_live(storage, segment)):
            continue  # a live writer is about to publish it
        try:
            copy = read_commit(storage, segment).replaces
        except DatasetError:
            continue  # not whole: it is on its way
        (superfluous if copy else orphans).append(segment)
    return orphans, superfluous
