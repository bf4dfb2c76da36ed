"""What takes the place of a damaged segment: the segments that it had replaced, and a copy of what is intact in it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from vla.core.errors import DatasetError
from vla.datasets.dataset import Dataset
from vla.datasets.documents import FormatVersionError
from vla.datasets.layout import Commit, image_name
from vla.datasets.manifest import Manifest, read_manifest
from vla.datasets.segment import SegmentWriter
from vla.datasets.storage import Storage
from vla.datasets.verify import Damage, intact_episodes, is_whole, verify_segment, verify_without_record


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


def salvage(storage: Storage, segment: str, versions: Versions) -> Salvaged | None:
    """Find or make what takes the place of a segment; None if nothing is wrong with it."""
    try:
        commit, damage = verify_segment(storage, segment)
        replaces: Sequence[str] = commit.replaces
    except FormatVersionError:
        raise
    except DatasetError as error:
        replaces = versions.before(segment)
        try:
            commit, damage = verify_without_record(storage, segment)
        except DatasetError:
            commit, damage = Commit(frames=0, episodes=0, files={}, replaces=()), [Damage(name="", what=str(error))]
    if not damage:
        return None
    first = f"{damage[0].name} {damage[0].what}".strip() + (f" and {len(damage) - 1} more" if len(damage) > 1 else "")
    if segment in versions.listed and segment not in versions.latest.segments:
        return Salvaged(instead=(), what=f"{first}; only older versions list it", lost=False)
    if segment not in versions.listed and replaces:
        return Salvaged(instead=(), what=f"{first}; a copy that was never published", lost=False)
    originals = _originals(storage, segment, replaces, versions)
    uids = {uid for _, found in originals for uid in found}
    copy, kept = _copy_intact(storage, segment, commit, damage, uids)
    elsewhere = len(uids - set(versions.latest.dropped))
    lost = commit.episodes - kept - elsewhere if commit.episodes else not originals
    return Salvaged(
        instead=(*(name for name, _ in originals), *copy),
        what=f"{first}; of {commit.episodes or 'its'} episodes {kept} are intact"
        + (f", and {elsewhere} are in segments that it had replaced" if originals else ""),
        lost=bool(lost > 0),
    )


def _originals(
    storage: Storage, segment: str, replaces: Sequence[str], versions: Versions
) -> list[tuple[str, frozenset[str]]]:
    """Whole segments that this one had replaced, with the uids of their episodes, none of which is elsewhere."""
    there = set(storage.children("segments"))
    whole = [name for name in replaces if name in there and is_whole(storage, name)]
    others = [name for name in versions.latest.segments if name != segment] if whole else []
    known = {uid for name in others for uid in _uids(storage, name)}
    return [(name, uids) for name in whole if not (uids := _uids(storage, name)) & known]


def _uids(storage: Storage, segment: str) -> frozenset[str]:
    try:
        return frozenset(uid.decode() for uid in Dataset.of_segment(storage, segment).episodes.uids.tolist())
    except DatasetError:
        return frozenset()


def _copy_intact(
    storage: Storage, segment: str, commit: Commit, damage: Sequence[Damage], without: Collection[str]
) -> tuple[tuple[str, ...], int]:
    """A new segment of the intact episodes but those ``without``, none if there are none; and their number."""
    try:
        view = Dataset.of_segment(storage, segment, commit)
    except DatasetError:
        return (), 0
    cameras = [camera.name for camera in view.contract.cameras]
    chosen = [
        number
        for number in intact_episodes(view.episodes, damage)
        if view.episodes[number].uid not in without and _is_complete(commit.files, cameras, number)
    ]
    if not chosen:
        return (), 0
    with SegmentWriter(storage, view.contract, {"repaired_from": segment}, replaces=[segment]) as writer:
        for number in chosen:
            writer.copy(view.episodes[number], view.read_rows(number), view.image_files(number))
        return (writer.seal(),), len(chosen)


def _is_complete(files: Mapping[str, object], cameras: Sequence[str], number: int) -> bool:
    """Whether the commit record names the metadata and at least one shard of each camera: it may be damaged itself."""
    prefixes = [f"data.zarr/{image_name(camera, number)}/" for camera in cameras]
    return all(
        f"{prefix}zarr.json" in files and any(name.startswith(f"{prefix}c/") for name in files) for prefix in prefixes
    )
