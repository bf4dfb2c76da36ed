"""Imports recordings of another format into a dataset: shares of episodes, each a segment, read in parallel."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.machine.processes import Engine
from vla.core.types import Episode
from vla.datasets.care.orphans import publish_orphans
from vla.datasets.care.pack import known_hashes
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.formats.source import Source
from vla.datasets.storage.storage import Location, Storage, open_storage
from vla.datasets.store.records import content_hash
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.shares import write_segments


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """How to import."""

    codecs: Mapping[str, str]
    """Frame codec of each camera that is not packed as zstd."""
    workers: int = 1
    engine: Engine = "ray"
    segment_episodes: int = 100
    """Episodes of one segment."""
    allow_duplicates: bool = False
    """Also import episodes that the dataset has already."""
    skip_invalid: bool = False
    """Leave out episodes that are damaged or break the contract, instead of failing at the end."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What came of an import."""

    manifest: int | None
    episodes: int
    steps: int
    duplicates: int
    """Episodes that were there already and were left out."""
    invalid: tuple[str, ...]
    """Why each of the episodes that were skipped was."""


@dataclass(frozen=True, kw_only=True)
class _Share:
    """What one share brought."""

    episodes: int
    steps: int
    duplicates: int
    invalid: tuple[str, ...]


def import_source(
    source: Source,
    root: Location | Storage,
    *,
    where: str,
    settings: ImportSettings,
    provenance: Mapping[str, Any],
    on_episode: Callable[[int], None] | None = None,
) -> Imported:
    """Write the episodes of ``source`` into the dataset ``root`` and publish them as one version.

    ``where`` names the source in the episodes' provenance. The same call continues an import that was stopped: episodes
    that the dataset has, by source and number or by content, are left out; what was sealed is published first.
    """
    storage = open_storage(root)
    create_dataset(storage, source.contract, settings.codecs)
    publish_orphans(storage, "of an import that was stopped")
    there = _imported_before(storage, where)
    wanted = [number for number in range(len(source)) if number not in there]
    hashes = frozenset() if settings.allow_duplicates else frozenset(known_hashes(storage))
    count = -(-len(wanted) // settings.segment_episodes)
    shares = [share.tolist() for share in np.array_split(np.array(wanted, np.int64), max(count, 1)) if len(share)]
    run = partial(
        _import_share, source, storage.url, where, settings, {**provenance, "notes": list(source.notes)}, hashes
    )
    manifest, results = write_segments(
        storage,
        run,
        shares,
        f"import of {where}",
        workers=settings.workers,
        engine=settings.engine,
        on_report=on_episode,
    )
    return Imported(
        manifest=manifest,
        episodes=sum(result.episodes for result in results),
        steps=sum(result.steps for result in results),
        duplicates=len(there) + sum(result.duplicates for result in results),
        invalid=tuple(line for result in results for line in result.invalid),
    )


def _imported_before(storage: Storage, where: str) -> set[int]:
    """Numbers of the source's episodes that the dataset has."""
    if not storage.children("manifests"):
        return set()
    index = Dataset.open(storage).episodes
    found = set()
    for number in range(len(index)):
        source = index.extra(number).get("provenance", {}).get("source", {})
        if source.get("path") == where:
            found.add(int(source["episode"]))
    return found


def _import_share(
    source: Source,
    root: str,
    where: str,
    settings: ImportSettings,
    provenance: Mapping[str, Any],
    hashes: frozenset[bytes],
    numbers: list[int],
    report: Callable[[int], None],
) -> tuple[str | None, _Share]:
    """Write some episodes of the source into one segment: its id, if any is new, and what it holds."""
    duplicates, invalid = 0, []
    contract: Contract = source.contract
    with SegmentWriter(root, contract, provenance, codecs=settings.codecs) as writer:
        for number in numbers:
            try:
                episode = _with_source(source.read(number), where, number)
                if content_hash(episode).encode() in hashes:
                    duplicates += 1
                else:
                    writer.append(episode)
            except DatasetError as error:
                if not settings.skip_invalid:
                    raise DatasetError(f"{where}, episode {number}: {error}") from None
                invalid.append(f"episode {number}: {error}")
                report(0)
                continue
            report(len(episode))
        if not writer.episodes:
            writer.abandon()
            return None, _Share(episodes=0, steps=0, duplicates=duplicates, invalid=tuple(invalid))
        segment = writer.seal()
        return segment, _Share(
            episodes=writer.episodes,
            steps=writer.steps,
            duplicates=duplicates,
            invalid=tuple(invalid),
        )


def _with_source(episode: Episode, where: str, number: int) -> Episode:
    """The episode with its origin in its provenance."""
    return replace(episode, provenance={**episode.provenance, "source": {"path": where, "episode": number}})
