"""Manifests: the numbered, immutable versions of a dataset.

Each names its segments by the digests of their commit records, so that a folder under another's name is noticed; and
beside each stands a witness, a file of its number, so that a newest version that vanished is missed.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from vla.core.errors import DatasetError
from vla.core.sealed import DamageError, brief, listed, table, text, whole
from vla.datasets.storage.storage import Location, Storage, open_storage
from vla.datasets.store.documents import encode, parsed, read_document, segment_id
from vla.datasets.store.layout import explain_full_disk, now, read_commit, read_description
from vla.datasets.store.records import check_label


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One version of a dataset: its segments, in order, and what is said otherwise than they say it."""

    number: int
    parent: int | None
    segments: tuple[str, ...]
    dropped: tuple[str, ...] = ()
    """Uids of episodes that lie in the segments and do not belong to this version."""
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """{uid: {field: value}}: instruction, alternatives, task, success or split, relabelled."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Of the commit record of each segment; those of versions that were published before there were any are missing."""
    created: str
    reason: str

    def document(self, number: int, reason: str) -> dict[str, Any]:
        """The version that follows this one with the same content, as JSON."""
        parent = self.number or None
        return {**dataclasses.asdict(self), "number": number, "parent": parent, "created": now(), "reason": reason}


Change = Callable[[Manifest], Manifest]
"""From the latest version to the next; called again if another process was faster."""


def latest_number(root: Location | Storage) -> int | None:
    """The highest manifest number, or ``None`` before the first `publish`."""
    return _highest(open_storage(root), "manifests")


def vanished(storage: Storage) -> int | None:
    """The newest number that was published, if its manifest is gone."""
    newest = _highest(storage, "witness") or 0  # first: meanwhile another version may be published
    return newest if newest > (latest_number(storage) or 0) else None


def _highest(storage: Storage, folder: str) -> int | None:
    names = (re.fullmatch(r"([0-9]{6,12})\.json", name) for name in storage.children(folder))
    return max((int(name[1]) for name in names if name), default=None)


def manifest_name(number: int) -> str:
    """The file of one manifest."""
    return f"manifests/{number:06d}.json"


def witness_name(number: int) -> str:
    """The file that says that there was a manifest of this number."""
    return f"witness/{number:06d}.json"


def require_newest(storage: Storage) -> int | None:
    """The latest number; a `DatasetError` if a newer version was published and its manifest is gone."""
    gone, latest = vanished(storage), latest_number(storage)
    if gone:
        older = f"; or open an older version (manifest={latest}), or run vla data repair to go on from it"
        raise DatasetError(
            f"{storage.url}: version {gone} was published, and {manifest_name(gone)} is gone: restore it from a "
            f"copy{older if latest else ''}"
        )
    return latest


def put_manifest(storage: Storage, manifest: Manifest, number: int, reason: str) -> bool:
    """Write the content of ``manifest`` as version ``number``, then its witness; false if the number is taken."""
    if not storage.put_if_absent(manifest_name(number), encode(manifest.document(number, reason))):
        return False
    put_witness(storage, number)
    return True


def put_witness(storage: Storage, number: int) -> bool:
    """Say that there is a manifest of this number; false if that is said already."""
    return storage.put_if_absent(witness_name(number), encode({"number": number}))


def read_witness(storage: Storage, number: int) -> None:
    """Raise `DatasetError` unless the witness of a version is there and says so."""
    name, fix = witness_name(number), "run vla data repair"
    value = read_document(storage, name, missing=f"Nothing would tell if version {number} vanished; {fix}", damaged=fix)
    if value.get("number") != number:
        raise DatasetError(f"{storage.url}/{name} is damaged: it says {brief(value.get('number'))}; {fix}")


def read_manifest(root: Location | Storage, number: int | None = None) -> Manifest:
    """Read one manifest, the latest if ``number`` is ``None``; a latest that vanished is a `DatasetError`."""
    storage = open_storage(root)
    if number is None:
        number = require_newest(storage)
        if number is None:
            raise DatasetError(
                f"{storage.url} holds no manifest: nothing has been published; collect or import episodes first"
            )
    older = f"open an older version (manifest={number - 1}), or run vla data repair"
    value = read_document(
        storage,
        manifest_name(number),
        missing=f"The latest manifest of {storage.url} is {latest_number(storage)}",
        damaged=older[0].upper() + older[1:],
    )
    where = f"{storage.url}/{manifest_name(number)}"
    return parsed(where, value, lambda value: _parse(value, number), fix=older)


def _parse(value: dict[str, Any], number: int) -> Manifest:
    if whole(value.get("number"), "number", least=1) != number:  # a copy under another name
        raise DamageError(f"it says that it is number {value['number']}")
    segments = listed(value.get("segments"), "segments", segment_id)
    if len(set(segments)) < len(segments):
        raise DamageError("segments: one is listed twice")
    overrides = table(value.get("overrides", {}), "overrides")
    for uid, change in overrides.items():
        for name, said in table(change, f"overrides of {uid[:40]!r}").items():
            check_label(name, said)
    digests = table(value.get("digests", {}), "digests")
    return Manifest(
        number=number,
        parent=None if value.get("parent") is None else whole(value["parent"], "parent", least=1),
        segments=segments,
        dropped=listed(value.get("dropped", []), "dropped", text),
        overrides=overrides,
        digests={segment_id(segment, "digests"): text(one, "digests") for segment, one in digests.items()},
        created=text(value.get("created"), "created"),
        reason=text(value.get("reason"), "reason"),
    )


def publish(root: Location | Storage, segment_ids: Sequence[str], reason: str) -> int:
    """Add sealed segments to the dataset as a new manifest and return its number.

    Segments that are listed already are not listed twice; if all are, the latest number is returned.
    """
    if not segment_ids:
        raise DatasetError("publish needs at least one segment id")
    storage = open_storage(root)
    read_description(storage)
    for segment in segment_ids:
        read_commit(storage, segment)

    def add(latest: Manifest) -> Manifest:
        return dataclasses.replace(latest, segments=tuple(dict.fromkeys([*latest.segments, *segment_ids])))

    return publish_change(storage, add, reason)


def publish_change(root: Location | Storage, change: Change, reason: str) -> int:
    """Publish what ``change`` makes of the latest version, and return its number; no change publishes nothing.

    Safe with any number of publishers: one that loses the race for a number applies its change to the winner's version.
    """
    storage = open_storage(root)
    while True:
        number = require_newest(storage)
        if number is None:
            latest = Manifest(number=0, parent=None, segments=(), created="", reason="")
        else:
            latest = read_manifest(storage, number)
        changed = change(latest)
        if changed == latest and number is not None:
            return number
        following = latest.number + 1
        with explain_full_disk(storage, f"manifest {following}"):
            if put_manifest(storage, with_digests(storage, changed), following, reason):
                return following


def with_digests(storage: Storage, manifest: Manifest) -> Manifest:
    """The same, with the digest of each segment that it lists; one that is damaged now has none."""
    digests = dict(manifest.digests)
    for segment in manifest.segments:
        if segment not in digests:
            with suppress(DatasetError):
                digests[segment] = read_commit(storage, segment, check_sizes=False).digest
    listed = {segment: digests[segment] for segment in manifest.segments if segment in digests}
    return dataclasses.replace(manifest, digests=listed)
