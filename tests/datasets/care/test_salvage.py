"""Of a damaged segment every episode stays that is whole somewhere, under its uid; what is sealed never changes."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.sealed import COMMIT
from vla.core.types import Episode
from vla.datasets.care.pack import pack
from vla.datasets.care.repair import Repaired, repair
from vla.datasets.care.validate import validate
from vla.datasets.dataset import Dataset
from vla.datasets.edit import keep_only, relabel
from vla.datasets.selection import Selection
from vla.datasets.store.segment import SegmentWriter

MakeDataset = Callable[..., Dataset]
MakeEpisode = Callable[..., Episode]
Same = Callable[[Episode, Episode], None]


def flip(path: Path, position: int = 30) -> None:
    """Flip a bit, in this segment alone: what other segments share of it through links stays."""
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.unlink()
    path.write_bytes(data)


def uids(dataset: Dataset) -> list[str]:
    return [record.uid for record in dataset.episodes]


def sealed(root: Path) -> dict[str, str]:
    """Digest of each file of each segment, also of those in quarantine."""
    paths = [path for folder in ("segments", "quarantine") for path in (root / folder).rglob("*") if path.is_file()]
    return {"/".join(p.relative_to(root).parts[1:]): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def repaired(root: Path) -> Repaired:
    """Repair; nothing that was sealed has changed, and the second time there is nothing to do."""
    before = sealed(root)
    report = repair(root)
    assert before.items() <= sealed(root).items()
    again = repair(root)
    assert (again.done, again.lost, again.manifest) == ([], [], None)
    assert validate(root, "full") == []
    return report


def assert_kept(root: Path, old: dict[str, Episode], expected: list[str], same: Same) -> None:
    after = Dataset.open(root)
    assert uids(after) == expected
    for number, uid in enumerate(expected):
        same(after.read_episode(number), old[uid])


@pytest.fixture
def dataset(make_rich_dataset: MakeDataset) -> Dataset:
    return make_rich_dataset([[2], [3, 1, 2], [2]])


@pytest.fixture
def root(dataset: Dataset) -> Path:
    return Path(dataset.url)


@pytest.fixture
def old(dataset: Dataset) -> dict[str, Episode]:
    return {record.uid: dataset.read_episode(number) for number, record in enumerate(dataset.episodes)}


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("data.zarr/images/front/000001/c/0/0/0/0", {1}),
        ("data.zarr/images/slow-depth/000002/zarr.json", {2}),
        ("data.zarr/sim_state/000000/c/0/0", {0}),
        ("data.zarr/zarr.json", set()),
        ("data.zarr/images/front/zarr.json", set()),
        ("dataset.json", set()),
        (COMMIT, set()),
        ("data.zarr/action/c/0/0", {0, 1, 2}),
        ("data.zarr/image_time_ns/fast/zarr.json", {0, 1, 2}),
        ("episodes.json", {0, 1, 2}),
    ],
)
@pytest.mark.parametrize("how", ["flipped", "missing"])
def test_one_file(
    dataset: Dataset, root: Path, old: dict[str, Episode], assert_same: Same, name: str, lost: set[int], how: str
) -> None:
    """In the middle segment; its intact episodes take its place."""
    segment = dataset.manifest.segments[1]
    if how == "flipped":
        flip(root / "segments" / segment / name)
    else:
        (root / "segments" / segment / name).unlink()
        lost = {0, 1, 2} if name == COMMIT else lost
    all_uids = uids(dataset)
    report = repaired(root)
    expected = [uid for number, uid in enumerate(all_uids) if number - 1 not in lost]
    assert_kept(root, old, expected, assert_same)
    assert (root / "quarantine" / segment).is_dir()
    assert segment not in Dataset.open(root).manifest.segments
    assert bool(report.lost) == bool(lost)
    if name != COMMIT:
        assert name in [*report.lost, *report.done][0]
        assert f"{3 - len(lost)} of 3 episodes are intact" in [*report.lost, *report.done][0] or name == "episodes.json"


def test_models_are_those_of_some_episodes(
    dataset: Dataset, root: Path, old: dict[str, Episode], assert_same: Same
) -> None:
    record = dataset.episodes[2]
    flip(root / f"segments/{dataset.manifest.segments[1]}/models/{record.model}.xml", 3)
    repaired(root)
    others = [
        r.uid for r in dataset.episodes if r.model != record.model or r.uid in (uids(dataset)[0], uids(dataset)[4])
    ]
    assert_kept(root, old, others, assert_same)


def test_overrides_and_drops_outlive_a_salvage(dataset: Dataset, root: Path) -> None:
    first, second, third, fourth, fifth = uids(dataset)
    relabel(dataset, {second: {"task": "pull"}, fifth: {"split": "val"}}, "said")
    keep_only(Dataset.open(root), Selection(uids=(first, second, third, fifth)), "one less")
    flip(root / f"segments/{dataset.manifest.segments[1]}/data.zarr/images/front/000001/c/0/0/0/0")
    repaired(root)
    after = Dataset.open(root)
    assert uids(after) == [first, second, fifth]
    assert fourth not in uids(after)
    assert [record.task for record in after.episodes] == ["put", "pull", "put"]
    assert after.episodes[2].split == "val"


@pytest.mark.parametrize(
    "name", ["data.zarr/action/c/0/0", "episodes.json", COMMIT, "data.zarr/images/front/000001/c/0/0/0/0"]
)
def test_what_a_packed_segment_loses_comes_from_those_it_replaced(
    dataset: Dataset, root: Path, old: dict[str, Episode], assert_same: Same, name: str
) -> None:
    keep_only(dataset, Selection(uids=tuple(uids(dataset)[1:])), "without the first")
    expected = uids(Dataset.open(root))
    pack(root)
    (packed,) = Dataset.open(root).manifest.segments
    flip(root / "segments" / packed / name)
    report = repaired(root)
    assert report.lost == []
    assert_kept(root, old, expected, assert_same)
    assert Dataset.open(root).manifest.segments == dataset.manifest.segments


def test_a_packed_segment_and_one_that_it_replaced_are_damaged(
    dataset: Dataset, root: Path, old: dict[str, Episode], assert_same: Same
) -> None:
    """What one lacks the other has."""
    all_uids = uids(dataset)
    pack(root)
    (packed,) = Dataset.open(root).manifest.segments
    flip(root / f"segments/{packed}/data.zarr/images/front/000002/c/0/0/0/0")
    flip(root / f"segments/{dataset.manifest.segments[1]}/data.zarr/images/front/000000/c/0/0/0/0")
    report = repaired(root)
    assert report.lost == []
    after = Dataset.open(root)
    assert sorted(uids(after)) == sorted(all_uids)
    for number, record in enumerate(after.episodes):
        assert_same(after.read_episode(number), old[record.uid])


def test_two_packed_segments_one_damaged(make_dataset: MakeDataset, assert_same: Same) -> None:
    """With its commit record gone, what it had replaced is told from what the other had replaced by the uids."""
    dataset = make_dataset([[1], [2], [1], [2]])
    root = Path(dataset.url)
    old = {record.uid: dataset.read_episode(number) for number, record in enumerate(dataset.episodes)}
    target = max(dataset.segment_bytes(0) + dataset.segment_bytes(1), dataset.segment_bytes(2) * 2) * 1.05 / 1e6
    pack(root, target)
    assert len(Dataset.open(root).manifest.segments) == 2
    second = Dataset.open(root).manifest.segments[1]
    (root / "segments" / second / COMMIT).unlink()
    report = repaired(root)
    assert report.lost == []
    assert_kept(root, old, uids(dataset), assert_same)


def test_damage_that_only_older_versions_see(dataset: Dataset, root: Path, assert_same: Same) -> None:
    pack(root)
    before = Dataset.open(root)
    flip(root / f"segments/{dataset.manifest.segments[1]}/data.zarr/action/c/0/0")
    report = repaired(root)
    assert report.lost == []
    assert "only older versions list it" in report.done[0]
    after = Dataset.open(root)
    assert after.manifest == before.manifest
    for number in range(5):
        assert_same(after.read_episode(number), before.read_episode(number))


def test_damage_in_what_was_never_published(
    dataset: Dataset, root: Path, rich_contract: Contract, make_rich_episode: MakeEpisode, assert_same: Same
) -> None:
    """An orphan is published without its damaged episode; a copy is not published at all."""
    with SegmentWriter(root, rich_contract, {}) as writer:
        for seed in (40, 41):
            writer.append(make_rich_episode(2, seed))
        orphan = writer.seal()
    with SegmentWriter(root, rich_contract, {}, replaces=dataset.manifest.segments[:1]) as writer:
        writer.copy(dataset.episodes[0], dataset.read_rows(0), dataset.image_files(0))
        copy = writer.seal()
    flip(root / f"segments/{orphan}/data.zarr/images/front/000000/c/0/0/0/0")
    flip(root / f"segments/{copy}/data.zarr/action/c/0/0")
    report = repaired(root)
    after = Dataset.open(root)
    assert uids(after) == [*uids(dataset), f"{orphan}-000001"]
    assert_same(after.read_episode(5), make_rich_episode(2, 41))
    assert any(copy in line and "never published" in line for line in report.done)


def test_a_segment_that_is_put_back_and_is_damaged_again(dataset: Dataset, root: Path) -> None:
    segment = dataset.manifest.segments[2]
    shard = root / f"segments/{segment}/data.zarr/action/c/0/0"
    flip(shard)
    repaired(root)
    (root / "quarantine" / segment).rename(root / "segments" / segment)
    report = repaired(root)
    assert sorted(path.name.split("-")[0] for path in (root / "quarantine").iterdir()) == [segment.split("-")[0]]
    assert report.lost == []
    (root / "quarantine" / segment / "again").mkdir()
    assert uids(Dataset.open(root)) == uids(dataset)[:4]


def test_a_quarantine_that_is_taken(dataset: Dataset, root: Path) -> None:
    segment = dataset.manifest.segments[2]
    (root / "quarantine" / segment).mkdir(parents=True)
    (root / "quarantine" / segment / "old").touch()
    flip(root / f"segments/{segment}/data.zarr/action/c/0/0")
    report = repair(root)
    assert len(list((root / "quarantine").iterdir())) == 2
    assert f"quarantine/{segment}-" in report.done[-1]


def test_reading_goes_on_in_other_segments(dataset: Dataset, root: Path) -> None:
    """A dataset that was open before keeps reading what is whole."""
    dataset.read_episode(0)
    flip(root / f"segments/{dataset.manifest.segments[1]}/data.zarr/images/front/000001/c/0/0/0/0")
    repaired(root)
    np.testing.assert_array_equal(dataset.frame("front", 0), Dataset.open(root).frame("front", 0))
    with pytest.raises(DatasetError):
        dataset.frame("front", 3)
