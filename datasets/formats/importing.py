"""Imports recordings of another format into a dataset: shares of episodes, each a segment, read in parallel.

What every format gets from here, and need not do itself:

    identity      an episode is known again by its content (`vla.datasets.formats.identity`): new, the same, relabelled
                  or replaced, whatever its path and number. `Source.read` is called for every episode of every import
    skipping      whatever `Source.read` raises as a `DatasetError` is the fault of that episode alone; a source that
                  finds one while it plans keeps the episode's number and raises when it is read (`Unreadable`)
    notes         what a source assumed of all episodes is `Source.notes`; what it assumed of one episode, or could not
                  carry over, it says with `noted` in that episode's provenance. Both are shown by the import, kept in
                  the dataset, and said again by ``vla data validate`` and ``vla data info``
    limits        those of a dataset stay: numbers of later recordings that leave them a little are counted in the
                  notes, episodes beyond `Contract.tolerance` are refused
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import ContractError, DatasetError
from vla.core.machine.engines import EngineChoice
from vla.core.types import Episode
from vla.datasets.care.episode_findings import check_bounds
from vla.datasets.care.orphans import publish_orphans
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.formats.identity import Inventory, Known, Outcome, Settled, labels_of
from vla.datasets.formats.source import Source, notes_of
from vla.datasets.storage.storage import Location, Storage, open_storage
from vla.datasets.store.layout import read_description
from vla.datasets.store.manifest import Manifest, publish_change
from vla.datasets.store.records import motion_hash
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.shares import write_segments

_SAME_RATE = 0.1
"""Of a camera's rate."""
_WRITING = 2.0
"""Importing an episode takes so many times as long as reading it: it is packed and written too."""


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """How to import."""

    codecs: Mapping[str, str]
    """Frame codec of each camera that is not packed as zstd."""
    workers: int = 1
    engine: EngineChoice = "auto"
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
    """The version that was published, None if nothing was."""
    episodes: int
    """New ones, and those that replace others."""
    steps: int
    duplicates: int
    """Episodes that were there already, or earlier in the source, and were left out."""
    changed: tuple[str, ...] = ()
    """What became of each episode that was there and that the source says otherwise now."""
    invalid: tuple[str, ...] = ()
    """Why each of the episodes that were skipped was."""
    notes: tuple[str, ...] = ()
    """What was assumed of single episodes, or could not be carried over."""


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

    ``where`` names the source in the episodes' provenance. The same call continues an import that was stopped: what the
    dataset has is left out, by its content, and what was sealed is published first.
    """
    storage = open_storage(root)
    contract, notes = _create(storage, source.contract, settings)
    publish_orphans(storage, "of an import that was stopped")
    dataset = Dataset.open(storage) if storage.children("manifests") else None
    inventory = Inventory(dataset, where, own=settings.allow_duplicates)
    outcomes: list[Outcome] = []

    def write(numbers: Sequence[int], known: Known) -> int | None:
        """Import these episodes; the version, if there is a new one."""

        def heard(outcome: Outcome) -> None:
            outcomes.append(outcome)
            if on_episode is not None and outcome.number not in missing:
                on_episode(outcome.steps)

        def change(sealed: Mapping[str, list[int]]) -> Callable[[Manifest], Manifest]:
            return partial(_changed, [*sealed], settle(sealed))

        count = -(-len(numbers) // settings.segment_episodes)
        shares = [share.tolist() for share in np.array_split(np.array(numbers, np.int64), max(count, 1)) if len(share)]
        said = {**provenance, "notes": [*source.notes, *notes]}
        run = partial(_import_share, source, contract, storage.url, where, settings, said, known)
        version, _ = write_segments(
            storage,
            run,
            shares,
            f"import of {where}",
            workers=settings.workers,
            engine=settings.engine,
            seconds=_seconds(source, numbers) if settings.engine == "auto" and len(shares) > 1 else None,
            on_report=heard,
            change=change,
        )
        return version

    def settle(sealed: Collection[str]) -> Settled:
        """What follows from all that is sure by now."""
        segments.update(sealed)
        sure = [outcome for outcome in outcomes if not outcome.uid or outcome.uid.rpartition("-")[0] in segments]
        return inventory.settle(sure, twins=settings.allow_duplicates)

    segments: set[str] = set()
    missing: set[int] = set()
    version = write(range(len(source)), inventory.known)
    settled = settle(())
    if settled.missing:
        missing.update(settled.missing)
        version = write(settled.missing, Known()) or version
        settled = settle(())
    if version is None and (settled.edits or settled.dropped):
        version = publish_change(storage, settled.change, f"import of {where}")
    written = [outcome for outcome in outcomes if outcome.uid and outcome.uid not in settled.dropped]
    outcomes.sort(key=lambda outcome: outcome.number)
    return Imported(
        manifest=version,
        episodes=len(written),
        steps=sum(outcome.steps for outcome in written),
        duplicates=settled.same,
        changed=settled.changed,
        invalid=tuple(f"episode {o.number}: {o.invalid}" for o in outcomes if o.invalid),
        notes=(*notes, *(f"episode {o.number}: {note}" for o in written for note in o.notes)),
    )


def _seconds(source: Source, numbers: Sequence[int]) -> float | None:
    """What an import of these episodes may take in one process, by reading one of them; None where it is damaged."""
    began = time.perf_counter()
    try:
        source.read(numbers[0])
    except DatasetError:
        return None
    return _WRITING * (time.perf_counter() - began) * len(numbers)


def _changed(segments: Sequence[str], settled: Settled, latest: Manifest) -> Manifest:
    """The version with new segments and the edits."""
    return settled.change(replace(latest, segments=tuple(dict.fromkeys([*latest.segments, *segments]))))


def _create(storage: Storage, contract: Contract, settings: ImportSettings) -> tuple[Contract, tuple[str, ...]]:
    """Make the dataset, or find it; its contract, and what is not as the source says.

    Limits, and rates of cameras with a clock of their own, differ from recording to recording where they are measured:
    those of a dataset that is there stay.
    """
    try:
        create_dataset(storage, contract, settings.codecs)
        return contract, ()
    except ContractError:
        there = read_description(storage).contract
        adopted = replace(
            contract,
            state=_limited(contract.state, there.state),
            action=_limited(contract.action, there.action),
            cameras=_paced(contract.cameras, there.cameras),
        )
        create_dataset(storage, adopted, settings.codecs)  # refuses what differs in more than limits
    return adopted, (
        "The dataset keeps the limits and cameras' rates that it was made with: those of this source are others. "
        "Episodes beyond them are refused; limits that hold what comes later are given with the first (--describe).",
    )


def _limited(ours: Sequence[Dimension], theirs: Sequence[Dimension]) -> tuple[Dimension, ...]:
    """Our dimensions with their limits, where they are the same otherwise."""
    limits = {(d.name, d.unit): d for d in theirs}
    return tuple(replace(d, low=t.low, high=t.high) if (t := limits.get((d.name, d.unit))) else d for d in ours)


def _paced(ours: Sequence[Camera], theirs: Sequence[Camera]) -> tuple[Camera, ...]:
    """Our cameras with their rates, where these are nearly the same: each frame has a time of its own anyway."""
    rates = {camera.name: camera.hz for camera in theirs}
    return tuple(
        replace(c, hz=hz) if c.hz and (hz := rates.get(c.name)) and abs(c.hz - hz) <= _SAME_RATE * hz else c
        for c in ours
    )


def _import_share(
    source: Source,
    contract: Contract,
    root: str,
    where: str,
    settings: ImportSettings,
    provenance: Mapping[str, Any],
    known: Known,
    numbers: list[int],
    report: Callable[[Outcome], None],
) -> tuple[str | None, None]:
    """Write those episodes of the source that are not there into one segment: its id, if there are any."""
    with SegmentWriter(root, contract, provenance, codecs=settings.codecs) as writer:
        for number in numbers:
            try:
                outcome = _import_episode(writer, source.read(number), contract, where, number, known)
            except DatasetError as error:
                if not settings.skip_invalid:
                    raise DatasetError(f"{where}, episode {number}: {error}") from None
                outcome = Outcome(number=number, invalid=str(error))
            report(outcome)
        if not writer.episodes:
            writer.abandon()
            return None, None
        return writer.seal(), None


def _import_episode(
    writer: SegmentWriter, episode: Episode, contract: Contract, where: str, number: int, known: Known
) -> Outcome:
    """Look one episode up, and append it if it is new."""
    content, there, replaces = known.find(episode, number)
    outcome = Outcome(number=number, steps=len(episode), content=content, labels=labels_of(episode))
    if there:
        return outcome
    origin = {"path": where, "episode": number, "motion": motion_hash(episode)}
    uid = writer.append(replace(episode, provenance={**episode.provenance, "source": origin}), content)
    beyond = tuple(finding.what for finding in check_bounds(episode, contract))
    return replace(outcome, uid=uid, replaces=replaces, notes=(*notes_of(episode), *beyond))
