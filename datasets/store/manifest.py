"""Manifests: the numbered, immutable versions of a dataset."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vla.core.errors import DatasetError
from vla.datasets.storage.storage import Location, Storage, open_storage
from vla.datasets.store.documents import encode, read_document
from vla.datasets.store.layout import explain_full_disk, now, read_commit, read_description


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
    names = (re.fullmatch(r"(\d{6,})\.json", name) for name in open_storage(root).children("manifests"))
    return max((int(name[1]) for name in names if name), default=None)


def manifest_name(number: int) -> str:
    """The file of one manifest."""
    return f"manifests/{number:06d}.json"


def read_manifest(root: Location | Storage, number: int | None = None) -> Manifest:
    """Read one manifest, the latest if ``number`` is ``None``."""
    storage = open_storage(root)
    latest = latest_number(storage)
    number = latest if number is None else number
    if number is None:
        raise DatasetError(
            f"{storage.url} holds no manifest: nothing has been published; collect or import episodes first"
        )
    older = f"open an older version (manifest={number - 1}), or run vla data repair"
    value = read_document(
        storage,
        manifest_name(number),
        missing=f"The latest manifest of {storage.url} is {latest}",
        damaged=older[0].upper() + older[1:],
    )
    try:
        if value["number"] != number:  # a copy under another name
            raise ValueError(f"it says that it is number {value['number']}")
        return Manifest(
            number=number,
            parent=None if value["parent"] is None else int(value["parent"]),
            segments=tuple(map(str, value["segments"])),
            dropped=tuple(map(str, value.get("dropped", ()))),
            overrides={str(uid): dict(change) for uid, change in value.get("overrides", {}).items()},
            created=str(value["created"]),
            reason=str(value["reason"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        where = f"{storage.url}/{manifest_name(number)}"
        raise DatasetError(f"{where} is damaged ({error!r}); {older}") from None


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
        number = latest_number(storage)
        if number is None:
            latest = Manifest(number=0, parent=None, segments=(), created="", reason="")
        else:
            latest = read_manifest(storage, number)
        changed = change(latest)
        if changed == latest and number is not None:
            return number
        following = latest.number + 1
        with explain_full_disk(storage, f"manifest {following}"):
            if storage.put_if_absent(manifest_name(following), encode(changed.document(following, reason))):
                return following
