"""What takes the place of a damaged segment: the segments that it had replaced, and a copy of what is intact in it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from vla.core.errors import DatasetError
from vla.datasets.care.verify import Damage, intact_episodes, verify_segment, verify_without_record
from vla.datasets.dataset import Dataset
from vla.datasets.storage.storage import Storage
from vla.datasets.store.documents import FormatVersionError
from vla.datasets.store.layout import Commit, ForeignSegmentError, image_name
from vla.datasets.store.manifest import Manifest, read_manifest
from vla.datasets.store.segment import SegmentWriter


@dataclass(frozen=True)
class Versions:
    """All versions of a dataset: those that can be read, oldest first, and the numbers of the others."""

    readable: Sequence[Manifest]
    damaged: Sequence[int]

    @staticmethod
    def read(storage: Storage) -> "Versions":
        """Read every manifest; one of a newer format is a `FormatVersionError`."""
        readable, damaged = [], []
        stems = [name.removesuffix(".json") for name in storage.children("manifests")]
        for number in sorted(int(stem) for stem in stems if stem.isdigit()):
            try:
                readable.append(read_manifest(storage, number))
            except FormatVersionError:
                raise
            except DatasetError:
                damaged.append(number)
        return Versions(readable, damaged)

    @property
    def latest(self) -> Manifest:
        """The newest that can be read; an empty version 0 if there is none."""
        nothing = Manifest(number=0, parent=None, segments=(), created="", reason="")
        return self.readable[-1] if self.readable else nothing

    @cached_property
    def listed(self) -> frozenset[str]:
        """Segments of any version."""
        return frozenset(segment for manifest in self.readable for segment in manifest.segments)

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """By which the versions name their segments, the newest first."""
        found: dict[str, str] = {}
        for manifest in reversed(self.readable):
            found = {**manifest.digests, **found}
        return found

    def before(self, segment: str) -> Sequence[str]:
        """Segments that left the dataset with the version in which this one came."""
        first = next((manifest for manifest in self.readable if segment in manifest.segments), None)
        parent = next((manifest for manifest in self.readable if first and manifest.number == first.parent), None)
        return [name for name in parent.segments if name not in first.segments] if first and parent else []


@dataclass(frozen=True, kw_only=True)
class Salvaged:
    """What became of a damaged segment."""

    instead: tuple[str, ...]
    """Whole segments in its place."""
    what: str
    lost: bool
    """Whether an episode is nowhere else."""


@dataclass(frozen=True)
class _Examined:
    """A segment, what its commit record says as far as it can be believed, and which files are not so."""

    name: str
    commit: Commit
    damage: Sequence[Damage]


def salvage(storage: Storage, segment: str, versions: Versions) -> Salvaged | None:
    """Find or make what takes the place of a segment; None if nothing is wrong with it."""
    found = _examine(storage, segment, versions.digests.get(segment))
    damage, episodes = found.damage, found.commit.episodes
    if not damage:
        return None
    first = f"{damage[0].name} {damage[0].what}".strip() + (f" and {len(damage) - 1} more" if len(damage) > 1 else "")
    replaces = found.commit.replaces or versions.before(segment)
    if segment in versions.listed and segment not in versions.latest.segments:
        return Salvaged(instead=(), what=f"{first}; only older versions list it", lost=False)
    if segment not in versions.listed and replaces:
        return Salvaged(instead=(), what=f"{first}; a copy that was never published", lost=False)
    whole, rest, known = _originals(storage, segment, replaces, versions)
    uids = {uid for one in whole for uid in _uids(storage, one)}
    copy, copied = _copy_intact(storage, [found, *rest], uids | known)
    kept = len(copied) + len(uids - set(versions.latest.dropped))
    what = f"{first}; {kept} of {episodes or 'its'} episodes are intact"
    return Salvaged(
        instead=(*(one.name for one in whole), *copy),
        what=what + (" here or in segments that it had replaced" if whole or rest else ""),
        lost=kept < episodes if episodes else not kept,
    )


def _examine(storage: Storage, segment: str, expected: str | None = None) -> _Examined:
    """As `verify_segment`; nothing is believed of a segment whose records are gone, or that is another one."""
    try:
        return _Examined(segment, *verify_segment(storage, segment, expected=expected))
    except FormatVersionError:
        raise
    except ForeignSegmentError as error:
        return _Examined(segment, _NOTHING, [Damage(name="", what=str(error))])
    except DatasetError as error:
        try:
            return _Examined(segment, *verify_without_record(storage, segment))
        except DatasetError:
            return _Examined(segment, _NOTHING, [Damage(name="", what=str(error))])


_NOTHING = Commit(steps=0, episodes=0, files={})


def _originals(
    storage: Storage, segment: str, replaces: Sequence[str], versions: Versions
) -> tuple[list[_Examined], list[_Examined], set[str]]:
    """Segments that this one had replaced, whole ones and others, and the uids of all other segments of the latest."""
    there = set(storage.children("segments"))
    examined = [_examine(storage, name) for name in replaces if name in there]
    if not examined:
        return [], [], set()
    others = [name for name in versions.latest.segments if name != segment and name in there]
    known = {uid for name in others for uid in (_uids(storage, name) or _uids(storage, _examine(storage, name)))}
    mine = [one for one in examined if not _uids(storage, one) & known]
    return [one for one in mine if not one.damage], [one for one in mine if one.damage], known


def _uids(storage: Storage, segment: str | _Examined) -> set[str]:
    """Of the episodes of a segment; none if its records are damaged."""
    try:
        if isinstance(segment, str):
            view = Dataset.of_segment(storage, segment)
        else:
            view = Dataset.of_segment(storage, segment.name, segment.commit)
    except DatasetError:
        return set()
    return {uid.decode() for uid in view.episodes.uids.tolist()}


def _copy_intact(
    storage: Storage, sources: Sequence[_Examined], without: Collection[str]
) -> tuple[tuple[str, ...], set[str]]:
    """A new segment of the intact episodes but those ``without``, none if there are none; and their uids."""
    chosen: dict[str, tuple[Dataset, int]] = {}
    for source in sources:
        try:
            view = Dataset.of_segment(storage, source.name, source.commit)
        except DatasetError:
            continue
        for number in intact_episodes(view.episodes, source.damage):
            uid = view.episodes[number].uid
            if uid not in without and _is_complete(source.commit.files, view, number):
                chosen.setdefault(uid, (view, number))
    if not chosen:
        return (), set()
    names, contract = [source.name for source in sources], next(iter(chosen.values()))[0].contract
    with SegmentWriter(storage, contract, {"repaired_from": names}, replaces=names) as writer:
        for view, number in chosen.values():
            writer.copy(view.episodes[number], view.read_rows(number), view.image_files(number))
        return (writer.seal(),), set(chosen)


def _is_complete(files: Mapping[str, object], view: Dataset, number: int) -> bool:
    """Whether the commit record names the metadata and at least one shard of each camera: it may be damaged itself."""
    prefixes = [f"data.zarr/{image_name(camera.name, number)}/" for camera in view.contract.cameras]
    return all(
        f"{prefix}zarr.json" in files and any(name.startswith(f"{prefix}c/") for name in files) for prefix in prefixes
    )
