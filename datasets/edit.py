"""New versions that say otherwise what is in a dataset: nothing that is sealed changes, and old versions stay."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from vla.core.errors import DatasetError
from vla.core.lookup import lookup
from vla.core.sealed import DamageError
from vla.datasets.dataset import Dataset
from vla.datasets.selection import Selection
from vla.datasets.store.manifest import Manifest, publish_change
from vla.datasets.store.records import EDITABLE, check_label


def keep_only(dataset: Dataset, selection: Selection, reason: str) -> int:
    """Publish a version with only the chosen episodes; episodes that others add meanwhile are kept."""
    gone = [uid.decode() for uid in dataset.episodes.uids[~selection.mask(dataset.episodes)]]
    if len(gone) == len(dataset.episodes):
        raise DatasetError(f"{dataset.url}: no episode fits ({selection}); nothing was published")

    def change(latest: Manifest) -> Manifest:
        return replace(latest, dropped=tuple(dict.fromkeys([*latest.dropped, *gone])))

    return publish_change(dataset.storage, change, reason)


def relabel(dataset: Dataset, changes: Mapping[str, Mapping[str, Any]], reason: str) -> int:
    """Publish a version in which the records of some episodes say otherwise: {uid: {field: value}}."""
    known = {uid.decode() for uid in dataset.episodes.uids}
    for uid, fields in changes.items():
        if uid not in known:
            raise DatasetError(f"{dataset.url}: no episode {uid!r} in version {dataset.manifest.number}")
        for name, value in fields.items():
            lookup("field", name, dict.fromkeys(EDITABLE))
            _check_value(uid, name, value)

    def change(latest: Manifest) -> Manifest:
        overrides = {uid: dict(fields) for uid, fields in latest.overrides.items()}
        for uid, fields in changes.items():
            overrides[uid] = {**overrides.get(uid, {}), **fields}
        return replace(latest, overrides=overrides)

    return publish_change(dataset.storage, change, reason)


def _check_value(uid: str, name: str, value: Any) -> None:
    try:
        check_label(name, value)
        "".join(map(str, value if isinstance(value, list | tuple) else [value])).encode()
    except DamageError:
        fits = False
    except UnicodeEncodeError as error:
        raise DatasetError(f"episode {uid}: {name} cannot be {value!r} ({error}); give text that UTF-8 holds") from None
    else:
        fits = not isinstance(value, str) or bool(value.strip())
    if not fits:
        raise DatasetError(f"episode {uid}: {name} cannot be {value!r}; expected a text, a list of texts or true/false")


def assign_splits(dataset: Dataset, shares: Mapping[str, float], seed: int) -> dict[str, dict[str, str]]:
    """A split for each episode, {uid: {"split": name}}, with exact shares in every task.

    Which episode goes where depends on its uid and the seed alone, so that most stay when others are added.
    """
    if not shares or any(not share >= 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        raise DatasetError(f"split: expected shares with a sum of 1, got {dict(shares)}")
    uids = dataset.episodes.uids
    keys = np.array([hashlib.blake2b(b"%d %s" % (seed, uid), digest_size=8).digest() for uid in uids], "S8")
    _, tasks = dataset.episodes.column("task")
    assigned: dict[str, dict[str, str]] = {}
    for task in np.unique(tasks):
        members = np.flatnonzero(tasks == task)
        members = members[np.argsort(keys[members], kind="stable")]
        edges = np.rint(np.cumsum(list(shares.values())) * len(members)).astype(int)
        for name, part in zip(shares, np.split(members, edges[:-1]), strict=True):
            assigned.update({uids[number].decode(): {"split": name} for number in part})
    return assigned
