"""Whether a dataset can be trusted, at three prices.

quick   every document, and the presence and size of every file
full    the checksum of every file: any flipped bit is found
deep    what the numbers say: every frame is decoded, times, bounds, frozen cameras, duplicates, balance
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vla.core.action_transform import ActionTransform
from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.care.orphans import is_live, unlisted
from vla.datasets.care.verify import stray_files, verify_segment
from vla.datasets.dataset import Dataset
from vla.datasets.sampling.statistics import compute, drift
from vla.datasets.store.layout import read_commit, read_description, rows_of
from vla.datasets.store.manifest import latest_number, read_manifest
from vla.datasets.store.staging import host_name, is_locked, unfinished
from vla.datasets.store.storage import Location, Storage, open_storage

Level = Literal["quick", "full", "deep"]

_FROZEN_S = 1.0
"""A camera whose pixels stay the same for longer, while the robot moves, is frozen."""
_JITTER = 0.5
"""Of the control period: how far the time between two steps may be off."""
_DRIFT_EPISODES = 5
"""A segment of fewer says too little to be compared with the whole."""
_BEYOND = 0.02
"""Of the range: how far an action may lie outside the limits of its contract."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    severity: Literal["error", "warning"]
    """An error is damage or makes training wrong; a warning deserves a look."""
    where: str
    what: str


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
        segments = read_manifest(storage, manifest).segments
    except DatasetError as error:
        return [_error("dataset", str(error))]
    findings = list(_versions(storage)) + list(_leftovers(storage))
    findings += list(_segments(storage, segments, level, progress))
    if level == "deep" and not any(finding.severity == "error" for finding in findings):
        dataset = Dataset.open(storage, manifest)
        findings += list(_episodes(dataset, progress)) + list(_whole(dataset))
    return findings


def _error(where: str, what: str) -> Finding:
    return Finding(severity="error", where=where, what=what)


def _warning(where: str, what: str) -> Finding:
    return Finding(severity="warning", where=where, what=what)


def _versions(storage: Storage) -> Iterator[Finding]:
    """Older versions that cannot be read any more."""
    latest = latest_number(storage) or 0
    for number in range(1, latest):
        try:
            read_manifest(storage, number)
        except DatasetError as error:
            if "does not exist" not in str(error):  # repair has moved it to quarantine
                yield _error(f"version {number}", str(error))


def _leftovers(storage: Storage) -> Iterator[Finding]:
    """What killed writers left, and segments that no version lists."""
    for remains in unfinished(storage):
        if remains.host == host_name() and not is_locked(remains.folder):
            yield _warning(remains.folder.name, "left by a writer that died; run vla data repair")
    for segment in unlisted(storage):
        if is_live(storage, segment):
            continue
        try:
            read_commit(storage, segment)
            yield _warning(f"segment {segment}", "sealed and in no version; run vla data repair")
        except DatasetError as error:
            yield _warning(f"segment {segment}", f"in no version, and not whole: {error}")


def _segments(storage: Storage, segments: tuple[str, ...], level: Level, progress: Progress) -> Iterator[Finding]:
    """The files of each segment."""
    for done, segment in enumerate(segments, start=1):
        try:
            if level == "quick":
                read_commit(storage, segment)
            else:
                commit, damage = verify_segment(storage, segment)
                yield from (_error(f"segment {segment}", f"{one.name} {one.what}") for one in damage)
                for name in stray_files(storage, segment, commit):
                    yield _warning(f"segment {segment}", f"{name} is not in its commit record")
        except DatasetError as error:
            yield _error(f"segment {segment}", str(error))
        progress("files", done, len(segments))


def _episodes(dataset: Dataset, progress: Progress) -> Iterator[Finding]:
    """What the numbers and pictures of each episode say."""
    for number in range(len(dataset.episodes)):
        try:
            episode = dataset.read_episode(number)
        except DatasetError as error:
            yield _error(f"episode {number}", str(error))
            continue
        for finding in check_numbers(episode, dataset.contract):
            yield Finding(
                severity=finding.severity,
                where=f"episode {number} ({dataset.episodes[number].uid})" + finding.where,
                what=finding.what,
            )
        progress("episodes", number + 1, len(dataset.episodes))


def check_numbers(episode: Episode, contract: Contract) -> Iterator[Finding]:
    """One episode: finite numbers, monotone and even times, actions within limits, cameras that are alive."""
    for name, array in rows_of(episode, contract).items():
        bad = ~np.isfinite(array.reshape(len(array), -1)).all(1)
        if bad.any():
            yield _error(
                "",
                f"{name} holds numbers that are not finite at {int(bad.sum())} steps",
            )
    yield from _check_times(episode, contract)
    yield from _check_bounds(episode, contract)
    if not episode.valid.any():
        yield _warning("", "no step may be learned from")
    if episode.provenance.get("recovered"):
        yield _warning("", "recovered from a recorder that died: success is unknown")
    for camera in contract.cameras:
        yield from _check_camera(camera.name, episode, contract.control_hz if camera.hz is None else camera.hz)


def _check_times(episode: Episode, contract: Contract) -> Iterator[Finding]:
    gaps = np.diff(episode.time_ns)
    backwards = int((gaps <= 0).sum())
    if backwards:
        yield _error("", f"time runs backwards or stands still at {backwards} steps")
        return
    period = 1e9 / contract.control_hz
    uneven = np.abs(gaps - period) > _JITTER * period
    if uneven.any():
        step = int(np.argmax(np.abs(gaps - period)))
        yield _warning(
            "",
            f"{int(uneven.sum())} of {len(gaps)} steps are not {period / 1e6:.1f} ms apart; "
            f"the worst: {gaps[step] / 1e6:.1f} ms after step {step}",
        )
    if (episode.command_time_ns < episode.time_ns).any():
        yield _warning("", "commands left before their observation was captured")


def _check_bounds(episode: Episode, contract: Contract) -> Iterator[Finding]:
    for name, dimensions in (("action", contract.action), ("state", contract.state)):
        for column, dimension in enumerate(dimensions):
            values = getattr(episode, name)[:, column]
            margin = _BEYOND * (dimension.high - dimension.low)
            outside = (values < dimension.low - margin) | (values > dimension.high + margin)
            if outside.any():
                worst = float(values[np.argmax(np.maximum(dimension.low - values, values - dimension.high))])
                yield _warning(
                    "",
                    f"{name} {dimension.name} leaves [{dimension.low:g}, {dimension.high:g}] {dimension.unit} "
                    f"at {int(outside.sum())} steps, to {worst:g}",
                )


def _check_camera(name: str, episode: Episode, hz: float) -> Iterator[Finding]:
    frames = episode.images[name]
    if not frames.any():
        yield _error("", f"camera {name} is black in all {len(frames)} frames")
        return
    same = np.array([np.array_equal(a, b) for a, b in zip(frames[1:], frames[:-1], strict=True)], bool)
    longest, start = _longest_run(same)
    moving = np.ptp(episode.state, axis=0).max(initial=0.0) > 0
    if longest >= max(3, _FROZEN_S * hz) and moving:
        yield _warning(
            "", f"camera {name} is frozen for {longest + 1} frames from frame {start} on, while the robot moves"
        )


def _longest_run(flags: np.ndarray) -> tuple[int, int]:
    """Length and start of the longest run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    best = int(np.argmax(ends - starts))
    return int(ends[best] - starts[best]), int(starts[best])


def _whole(dataset: Dataset) -> Iterator[Finding]:
    """What only the dataset as a whole shows: duplicates, balance of tasks, drift between its segments."""
    hashes, counts = np.unique(dataset.episodes.hashes, return_counts=True)
    for digest in hashes[counts > 1]:
        numbers = np.flatnonzero(dataset.episodes.hashes == digest)
        yield _warning(f"episodes {', '.join(map(str, numbers[:5]))}", "are the same recording")
    names, codes = dataset.episodes.column("task")
    tasks, sizes = np.unique(codes, return_counts=True)
    if len(tasks) > 1 and sizes.max() > 10 * sizes.min():
        few, many = names[tasks[sizes.argmin()]], names[tasks[sizes.argmax()]]
        yield _warning("tasks", f"unbalanced: {sizes.max()} episodes of {many!r}, {sizes.min()} of {few!r}")
    if len(dataset.episodes) and not (dataset.episodes.success == 1).any() and (dataset.episodes.success == 0).any():
        yield _warning("success", "no episode succeeded")
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
        yield _error("statistics", str(error))
        return
    for number in parts.tolist():
        mine = np.flatnonzero(dataset.episodes.segments == number)
        if not any(dataset.valid[s : s + n].any() for s, n in zip(*_extents(dataset, mine), strict=True)):
            continue
        for line in drift(compute(dataset, transform, 1, mine), whole, dataset.contract):
            yield _warning(f"segment {dataset.manifest.segments[number]}", line)


def _extents(dataset: Dataset, episodes: np.ndarray) -> tuple[list[int], list[int]]:
    """First steps and lengths of episodes."""
    return dataset.episode_starts[episodes].tolist(), dataset.episode_lengths[episodes].tolist()
