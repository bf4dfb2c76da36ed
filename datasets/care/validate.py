"""Whether a dataset can be trusted, at three prices.

quick   every document, the presence and size of every file, what an import had to say, and that states and commands
        keep the contract's limits
full    the checksum of every file: any flipped bit is found
deep    what the numbers say: every frame is decoded, times, bounds, frozen cameras, duplicates, balance
"""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from vla.core.action_transform import ActionTransform
from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.datasets.care.episode_findings import Finding, check_numbers
from vla.datasets.care.notes import import_notes
from vla.datasets.care.orphans import is_live, unlisted
from vla.datasets.care.verify import stray_files, verify_segment
from vla.datasets.dataset import Dataset
from vla.datasets.sampling.statistics import compute, drift
from vla.datasets.storage.storage import Location, Storage, open_storage
from vla.datasets.store.episode_check import LIMITED, check_within_limits
from vla.datasets.store.layout import read_commit, read_description
from vla.datasets.store.manifest import Manifest, latest_number, read_manifest, read_witness
from vla.datasets.store.staging import host_name, is_locked, unfinished

Level = Literal["quick", "full", "deep"]

_DRIFT_EPISODES = 5
"""A segment of fewer says too little to be compared with the whole."""


Progress = Callable[[str, int, int], None]
"""Called with the phase, what is done, and what there is."""


def validate(
    root: Location | Storage,
    level: Level = "quick",
    manifest: int | None = None,
    progress: Progress = lambda phase, done, total: None,
) -> list[Finding]:
    """All findings of one version, the latest by default; an empty list means that nothing is wrong."""
    storage = open_storage(root)
    try:
        read_description(storage)
        version = read_manifest(storage, manifest)
    except DatasetError as error:
        return [Finding.error("dataset", str(error))]
    findings = list(_versions(storage)) + list(_leftovers(storage))
    findings += list(_segments(storage, version, level, progress))
    if any(finding.severity == "error" for finding in findings):
        return findings
    try:
        dataset = Dataset.open(storage, manifest)
        findings += [*_told(dataset), *limit_findings(dataset)]
    except DatasetError as error:
        return [*findings, Finding.error("dataset", str(error))]
    if level == "deep":
        findings += list(_episodes(dataset, progress)) + list(_whole(dataset))
    return findings


def limit_findings(dataset: Dataset) -> Iterator[Finding]:
    """Episodes whose states or commands lie further outside of their limits than the contract tolerates."""
    for name in LIMITED:
        rows = getattr(dataset, name)
        if not _beyond(name, rows, dataset.contract):  # all at once: it is seldom that anything is found
            continue
        starts, lengths = dataset.episode_starts.tolist(), dataset.episode_lengths.tolist()
        for number, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            if what := _beyond(name, rows[start : start + length], dataset.contract):
                yield Finding.error(f"episode {number} ({dataset.episodes[number].uid})", what)


def _beyond(name: str, rows: np.ndarray, contract: Contract) -> str:
    """What `check_within_limits` says against them; empty for nothing."""
    try:
        check_within_limits({name: rows}, contract)
    except DatasetError as error:
        return str(error)
    return ""


def _versions(storage: Storage) -> Iterator[Finding]:
    """Older versions that cannot be read any more."""
    manifests, witnesses = set(storage.children("manifests")), set(storage.children("witness"))
    aside = {name[:11] for name in storage.children("quarantine")}  # 000001.json, moved there by repair
    for number in range(1, (latest_number(storage) or 0) + 1):
        name = f"{number:06d}.json"
        if name in aside or name not in manifests | witnesses:
            continue
        try:
            read_manifest(storage, number)
        except DatasetError as error:
            yield Finding.error(f"version {number}", str(error))
        try:
            read_witness(storage, number)
        except DatasetError as error:
            yield Finding.warning(f"version {number}", str(error))


def _leftovers(storage: Storage) -> Iterator[Finding]:
    """What killed writers left, and segments that no version lists."""
    for remains in unfinished(storage):
        if remains.host == host_name() and not is_locked(remains.folder):
            yield Finding.warning(remains.folder.name, "left by a writer that died; run vla data repair")
    for segment in unlisted(storage):
        if is_live(storage, segment):
            continue
        try:
            read_commit(storage, segment)
            yield Finding.warning(f"segment {segment}", "sealed and in no version; run vla data repair")
        except DatasetError as error:
            yield Finding.warning(f"segment {segment}", f"in no version, and not whole: {error}")


def _segments(storage: Storage, version: Manifest, level: Level, progress: Progress) -> Iterator[Finding]:
    """The files of each segment."""
    if missing := len(set(version.segments) - version.digests.keys()):
        yield Finding.warning(
            f"version {version.number}",
            f"does not say which {missing} of its segments are, so swapped ones are not noticed; run vla data upgrade",
        )
    for done, segment in enumerate(version.segments, start=1):
        expected = version.digests.get(segment)
        try:
            if level == "quick":
                read_commit(storage, segment, expected=expected)
            else:
                commit, damage = verify_segment(storage, segment, expected=expected)
                yield from (Finding.error(f"segment {segment}", f"{one.name} {one.what}") for one in damage)
                for name in stray_files(storage, segment, commit):
                    yield Finding.warning(f"segment {segment}", f"{name} is not in its commit record")
        except DatasetError as error:
            yield Finding.error(f"segment {segment}", str(error))
        progress("files", done, len(version.segments))


def _told(dataset: Dataset) -> Iterator[Finding]:
    """What imports said of single episodes, and of all of them."""
    for number, notes in dataset.episodes.notes():
        for note in notes:
            yield Finding.warning(f"episode {number} ({dataset.episodes[number].uid})", note)
    for note in import_notes(dataset):
        yield Finding.note("import", note)


def _episodes(dataset: Dataset, progress: Progress) -> Iterator[Finding]:
    """What the numbers and pictures of each episode say."""
    for number in range(len(dataset.episodes)):
        try:
            episode = dataset.read_episode(number)
        except DatasetError as error:
            yield Finding.error(f"episode {number}", str(error))
            continue
        for finding in check_numbers(episode, dataset.contract):
            yield Finding(
                severity=finding.severity,
                where=f"episode {number} ({dataset.episodes[number].uid})" + finding.where,
                what=finding.what,
            )
        progress("episodes", number + 1, len(dataset.episodes))


def _whole(dataset: Dataset) -> Iterator[Finding]:
    """What only the dataset as a whole shows: duplicates, balance of tasks, drift between its segments."""
    hashes, counts = np.unique(dataset.episodes.hashes, return_counts=True)
    for digest in hashes[counts > 1]:
        numbers = np.flatnonzero(dataset.episodes.hashes == digest)
        yield Finding.warning(f"episodes {', '.join(map(str, numbers[:5]))}", "are the same recording")
    names, codes = dataset.episodes.column("task")
    tasks, sizes = np.unique(codes, return_counts=True)
    if len(tasks) > 1 and sizes.max() > 10 * sizes.min():
        few, many = names[tasks[sizes.argmin()]], names[tasks[sizes.argmax()]]
        yield Finding.warning("tasks", f"unbalanced: {sizes.max()} episodes of {many!r}, {sizes.min()} of {few!r}")
    if len(dataset.episodes) and not (dataset.episodes.success == 1).any() and (dataset.episodes.success == 0).any():
        yield Finding.warning("success", "no episode succeeded")
    yield from _drift(dataset)


def _drift(dataset: Dataset) -> Iterator[Finding]:
    """Statistics of single segments, in which something may have gone wrong with the robot, against those of all."""
    counts = np.bincount(dataset.episodes.segments, minlength=len(dataset.manifest.segments))
    parts = np.flatnonzero(counts >= _DRIFT_EPISODES)
    if len(parts) < 2:
        return
    transform = ActionTransform.absolute(dataset.contract)
    try:
        whole = compute(dataset, transform, 1)
    except DatasetError as error:
        yield Finding.error("statistics", str(error))
        return
    for number in parts.tolist():
        mine = np.flatnonzero(dataset.episodes.segments == number)
        if not any(dataset.valid[s : s + n].any() for s, n in zip(*_extents(dataset, mine), strict=True)):
            continue
        for line in drift(compute(dataset, transform, 1, mine), whole, dataset.contract):
            yield Finding.warning(f"segment {dataset.manifest.segments[number]}", line)


def _extents(dataset: Dataset, episodes: np.ndarray) -> tuple[list[int], list[int]]:
    """First steps and lengths of episodes."""
    return dataset.episode_starts[episodes].tolist(), dataset.episode_lengths[episodes].tolist()
