"""Copies sealed episodes into new segments, their frames as they are: `pack` within a dataset, `merge` across."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from vla.core.contract import differences
from vla.core.errors import ContractError, DatasetError
from vla.datasets.care.notes import import_notes
from vla.datasets.care.orphans import publish_orphans
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.storage.storage import Location, Storage, open_storage
from vla.datasets.store.layout import read_commit
from vla.datasets.store.manifest import Manifest
from vla.datasets.store.records import NOTES
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.shares import write_segments
from vla.datasets.store.staging import alone

OnEpisode = Callable[[int], None]
"""Called with the number of steps of each episode that was copied."""


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Episodes that become one segment."""

    source: str
    manifest: int
    episodes: tuple[int, ...]
    target: str
    provenance: Mapping[str, Any]
    replaces: tuple[str, ...] = ()


def pack(
    root: Location | Storage, target_mb: float = 64.0, *, workers: int = 1, on_episode: OnEpisode | None = None
) -> tuple[int, int, int]:
    """Rewrite small segments, and those with dropped episodes, as larger ones; (version, segments before, and after).

    Old segments stay for old versions. On a local disk both share the files of their frames, and only one pack or
    `repair` runs at a time. What could be packed before a failure is published before it is raised.
    """
    storage = open_storage(root)
    with alone(storage, "pack"):
        dataset = Dataset.open(storage)
        before = len(dataset.manifest.segments)
        groups = _pack_groups(dataset, target_mb * 1e6)
        number, _ = write_segments(
            storage,
            _copy_group,
            groups,
            f"pack to {target_mb:g} MB",
            workers=workers,
            on_report=on_episode,
            change=partial(_Packed, storage),
        )
    packed = before - sum(len(group.replaces) - 1 for group in groups)
    return dataset.manifest.number if number is None else number, before, packed


@dataclass(frozen=True)
class _Packed:
    """The change from a version to one with new segments in the place of those that they hold."""

    storage: Storage
    packed: Mapping[str, _Group]

    def __call__(self, latest: Manifest) -> Manifest:
        if set(self.packed) <= set(latest.segments):
            return latest  # an object store may have done what it reported as failed
        segments = list(latest.segments)
        for new, group in self.packed.items():
            read_commit(self.storage, new)
            if not set(group.replaces) <= set(segments):
                raise DatasetError(f"{self.storage.url}: another process packed it at the same time; run pack again")
            segments[segments.index(group.replaces[0])] = new
            segments = [segment for segment in segments if segment not in group.replaces]
        return replace(latest, segments=tuple(segments))


def _pack_groups(dataset: Dataset, target: float) -> list[_Group]:
    """Runs of neighbouring small segments, up to ``target`` bytes together."""
    index, segments = dataset.episodes, dataset.manifest.segments
    kept = np.bincount(index.segments, minlength=len(segments))
    groups: list[list[int]] = [[]]
    size = 0.0
    for number in range(len(segments)):
        mine = dataset.segment_bytes(number)
        wasteful = kept[number] < dataset.segment_episodes(number)
        if mine >= target / 2 and not wasteful:
            groups.append([])
            size = 0.0
            continue
        if size + mine > target and groups[-1]:
            groups.append([])
            size = 0.0
        groups[-1].append(number)
        size += mine
    made = []
    for numbers in groups:
        episodes = tuple(np.flatnonzero(np.isin(index.segments, numbers)).tolist())
        alone = len(numbers) == 1 and kept[numbers[0]] == dataset.segment_episodes(numbers[0])
        if not numbers or alone or not episodes:
            continue
        names = tuple(segments[number] for number in numbers)
        provenance = {"packed_from": {name: dataset.provenance(int(n)) for name, n in zip(names, numbers, strict=True)}}
        made.append(
            _Group(
                source=dataset.url,
                manifest=dataset.manifest.number,
                episodes=episodes,
                target=dataset.url,
                provenance=provenance,
                replaces=names,
            )
        )
    return made


def _copy_group(group: _Group, report: Callable[[int], None]) -> tuple[str, None]:
    """Copy one group into a new segment; its id."""
    source = Dataset.open(group.source, group.manifest)
    with SegmentWriter(group.target, source.contract, group.provenance, replaces=group.replaces) as writer:
        for number in group.episodes:
            record = source.episodes[number]
            writer.copy(record, source.read_rows(number), source.image_files(number))
            report(record.length)
        return writer.seal(), None


def merge(
    sources: Sequence[Location],
    target: Location | Storage,
    *,
    allow_duplicates: bool = False,
    segment_episodes: int = 200,
    workers: int = 1,
    on_episode: OnEpisode | None = None,
) -> tuple[int, int]:
    """Copy the latest versions of several datasets of one robot into ``target``: (version, episodes left out).

    Episodes that ``target`` or an earlier source has already are left out. Another robot is a `ContractError`.
    """
    datasets = [Dataset.open(source) for source in sources]
    if not datasets:
        raise DatasetError("merge: expected at least one dataset to copy from")
    for dataset in datasets[1:]:
        lines = differences(datasets[0].contract, dataset.contract)
        if lines:
            raise ContractError(
                f"{datasets[0].url} and {dataset.url} are of different robots: {'; '.join(lines)}. "
                "One dataset has one contract; train on both with a mixture (configs/mixture.yaml) instead"
            )
    storage = open_storage(target)
    create_dataset(storage, datasets[0].contract, datasets[0].codecs)
    publish_orphans(storage, "of a merge that was stopped")
    seen = known_hashes(storage)
    groups, left_out = [], 0
    for dataset in datasets:
        fresh = []
        for number, digest in enumerate(dataset.episodes.hashes.tolist()):
            if digest in seen and not allow_duplicates:
                left_out += 1
            else:
                seen.add(digest)
                fresh.append(number)
        groups += [
            _Group(
                source=dataset.url,
                manifest=dataset.manifest.number,
                episodes=tuple(fresh[first : first + segment_episodes]),
                target=storage.url,
                provenance={
                    "merged_from": dataset.url,
                    "manifest": dataset.manifest.number,
                    NOTES: import_notes(dataset),
                },
            )
            for first in range(0, len(fresh), segment_episodes)
        ]
    if not groups:
        raise DatasetError(f"{storage.url}: all episodes are there already; nothing was merged")
    version, _ = write_segments(
        storage,
        _copy_group,
        groups,
        f"merge of {len(datasets)} datasets",
        workers=workers,
        on_report=on_episode,
    )
    assert version is not None, "each group of a merge seals a segment"
    return version, left_out


def known_hashes(storage: Storage) -> set[bytes]:
    """Content hashes of the episodes of the latest version; none before the first."""
    if not storage.children("manifests"):
        return set()
    return set(Dataset.open(storage).episodes.hashes.tolist())
