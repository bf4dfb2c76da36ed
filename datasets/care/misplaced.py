"""Segments that lie under each other's names, told by the digests that manifests keep, and put back."""

from vla.core.errors import DatasetError
from vla.datasets.care.salvage import Versions
from vla.datasets.storage.storage import Storage
from vla.datasets.store.layout import read_commit, segment_name

_ASIDE = ".swap-"
"""Before the id of a segment that is on its way to its place."""


def put_back(storage: Storage, versions: Versions, done: list[str]) -> None:
    """Move every whole segment to the name by which a version lists it; what was done is added to ``done``.

    Stopped half way, the next call goes on: what is on its way says where to.
    """
    right = {digest: segment for segment, digest in versions.digests.items()}
    names = [name for name in storage.children("segments") if not name.startswith(".")]
    found = {name: right.get(_digest(storage, name), name) for name in names}
    wrong = {name: target for name, target in found.items() if target != name}
    for name, target in wrong.items():
        if target not in found or target in wrong:  # otherwise a whole segment has that name, and this is a copy
            storage.move(segment_name(name), segment_name(_ASIDE + target))
    for name in storage.children("segments"):
        target = name.removeprefix(_ASIDE)
        if target != name and target not in storage.children("segments"):
            storage.move(segment_name(name), segment_name(target))
            done.append(f"segment {target}: put back in its place; another one had its name")


def _digest(storage: Storage, segment: str) -> str:
    try:
        return read_commit(storage, segment, check_sizes=False).digest
    except DatasetError:
        return ""
