"""Converts a dataset of format 1 to format 2, in place. All that is known of format 1 stands here.

Format 1 had one array ``grounding``, whose entries of unit ``image`` are the signal ``pointing`` now and the others the
signal ``grounding``, and it called the steps of a segment frames. Only the latest version is converted.

    DATASET/.upgrade/    the new dataset as it grows; begun anew where an upgrade was stopped
    DATASET/version2/    the same, complete; its folders change places with the old ones, then dataset.json
    DATASET/version1/    in the end the old dataset, whole

So a dataset is of format 1 until it is of format 2, and what a killed upgrade left says where the next one goes on.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vla.core.errors import DatasetError
from vla.core.files import make_folder
from vla.core.sealed import COMMIT, parse_files
from vla.core.upgrade.version1 import signal_columns, upgraded_contract
from vla.datasets.care.orphans import is_live
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.storage.storage import LocalStorage, Location, Storage, open_storage
from vla.datasets.store.arrays import read_checked_array
from vla.datasets.store.documents import FormatVersionError, parsed, read_document
from vla.datasets.store.layout import Commit, Description, read_checked, read_description, segment_name
from vla.datasets.store.manifest import (
    Manifest,
    latest_number,
    manifest_name,
    publish_change,
    put_manifest,
    read_manifest,
    with_digests,
)
from vla.datasets.store.records import EpisodeIndex
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.staging import alone, is_locked, unfinished

_FORMAT = "1.0"
_GROWING, _COMPLETE, _OLD = ".upgrade", "version2", "version1"
_FOLDERS = ("segments", "manifests", "witness", "stats")
_REPAIR = "Repair it with the version of vla that wrote it, then upgrade again"


def upgrade(root: Location | Storage, on_episode: Callable[[int], None] = lambda steps: None) -> bool:
    """Convert the latest version of a local dataset; false, and no change, where it is of today's format already.

    Images are linked and not copied where the file system can. Stopped at any moment, it may be called again.
    ``on_episode`` is called with the number of steps of each episode.
    """
    storage = open_storage(root)
    if not isinstance(storage, LocalStorage):
        raise DatasetError(f"{storage.url}: only local datasets are upgraded; copy it to a disk, upgrade, copy it back")
    with alone(storage, "upgrade"):
        if not (storage.root / _COMPLETE).exists():
            try:
                description = _read(storage, "dataset.json")
            except FormatVersionError:
                read_description(storage)  # refuses what is newer still
                return _complete(storage)
            _require_quiet(storage)
            _grow(storage, description, on_episode)
        _change_places(storage)
    return True


def _complete(storage: Storage) -> bool:
    """Publish a version that names its segments by digests, where the latest does not; whether one was needed."""
    if latest_number(storage) is None:
        return False
    latest = read_manifest(storage)
    if set(latest.segments) <= latest.digests.keys():
        return False
    reason = "upgrade: segments are named by digests"
    publish_change(storage, lambda latest: with_digests(storage, latest), reason)
    return True


def _read(storage: Storage, name: str) -> dict[str, Any]:
    missing = f"Check that {storage.url} is a dataset"
    return read_document(storage, name, missing=missing, damaged=_REPAIR, reads=_FORMAT)


def _require_quiet(storage: LocalStorage) -> None:
    """Nobody writes, and the place of the old dataset is free."""
    staged = [remains.folder.name for remains in unfinished(storage) if is_locked(remains.folder)]
    live = staged + [segment for segment in storage.children("segments") if is_live(storage, segment)]
    if live:
        raise DatasetError(f"{storage.url}: {live[0]} is being written; upgrade when its writer is done")
    if (storage.root / _OLD).exists():
        raise DatasetError(f"{storage.root / _OLD} is in the way: the old dataset would be kept there; move it away")


def _grow(storage: LocalStorage, description: Mapping[str, Any], on_episode: Callable[[int], None]) -> None:
    """Write the new dataset beside the old one."""
    where = f"{storage.url}/dataset.json"
    contract = upgraded_contract(description["contract"], where=where)
    new = LocalStorage(storage.root / _GROWING)
    shutil.rmtree(new.root, ignore_errors=True)
    create_dataset(new, contract, description["codecs"])
    for folder in _FOLDERS:
        make_folder(new.root / folder)
    number = latest_number(storage)
    if number is not None:
        old = _read(storage, manifest_name(number))
        segments = []
        for segment in old["segments"]:
            try:
                segments.append(_convert(storage, new, segment, description["contract"], on_episode))
            except DatasetError as error:
                raise DatasetError(f"{error}. The dataset is of format {_FORMAT} still. {_REPAIR}") from None
        latest = Manifest(
            number=number,
            parent=None,
            segments=tuple(segments),
            dropped=tuple(old.get("dropped", ())),
            overrides=old.get("overrides", {}),
            created="",
            reason="",
        )
        reason = f"upgrade from format {_FORMAT}: {old['reason']}"
        put_manifest(new, with_digests(new, latest), number + 1, reason)
    storage.move(_GROWING, _COMPLETE)


def _convert(
    storage: Storage, new: Storage, segment: str, contract: Mapping[str, Any], on_episode: Callable[[int], None]
) -> str:
    """Copy a segment into a new one, its images as they are; every checksum is compared. The new segment's id."""
    record = _read(storage, f"{segment_name(segment)}/{COMMIT}")
    where = f"{storage.url}/{segment_name(segment)}/{COMMIT}"
    files = parsed(where, record, lambda record: parse_files(record.get("files")), fix=_REPAIR)
    commit = Commit(steps=record["frames"], episodes=record["episodes"], files=files)
    texts = read_checked(storage, segment, commit, "episodes.json")
    index = EpisodeIndex.build([(f"{storage.url}/{segment_name(segment)}", texts)])
    description = read_description(new)
    source = Dataset(
        storage,
        Description(contract=replace(description.contract, signals={}), codecs=description.codecs),
        Manifest(number=0, parent=None, segments=(segment,), created="", reason=""),
        index,
        [commit],
    )
    columns, signals = signal_columns(contract), {}
    if columns:
        shape = (commit.steps, len(contract["grounding"]))
        both = read_checked_array(storage, segment, commit, "grounding", shape=shape, dtype="float32")
        signals = {name: both[:, chosen] for name, chosen in columns.items()}
    provenance = {**source.provenance(0), "upgraded_from": segment}
    with SegmentWriter(new, description.contract, provenance) as writer:
        for number, episode in enumerate(index):
            steps = slice(episode.start, episode.start + episode.length)
            rows = replace(source.read_rows(number), signals={name: rows[steps] for name, rows in signals.items()})
            writer.copy(episode, rows, source.image_files(number))
            on_episode(episode.length)
        return writer.seal()


def _change_places(storage: LocalStorage) -> None:
    """Part by part; the old ``dataset.json`` sends readers to `upgrade` until the new one replaces it."""
    new = storage.root / _COMPLETE
    for folder in _FOLDERS:
        if (new / folder).exists():
            if (storage.root / folder).exists():
                storage.move(folder, f"{_OLD}/{folder}")
            storage.move(f"{_COMPLETE}/{folder}", folder)
    if (new / "dataset.json").exists():
        storage.put_if_absent(f"{_OLD}/dataset.json", storage.read("dataset.json"))
        storage.move(f"{_COMPLETE}/dataset.json", "dataset.json")
    new.rmdir()
