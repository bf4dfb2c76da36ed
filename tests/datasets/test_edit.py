"""Versions that say otherwise: what they say, that the old ones stay, and that nobody's change is lost."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.core.contract import Contract
from vla.core.errors import DatasetError, VlaError
from vla.core.types import Episode
from vla.datasets.care.validate import validate
from vla.datasets.dataset import Dataset
from vla.datasets.edit import assign_splits, keep_only, relabel
from vla.datasets.selection import Selection
from vla.datasets.store.manifest import publish, read_manifest
from vla.datasets.store.segment import SegmentWriter

MakeDataset = Callable[..., Dataset]
MakeEpisode = Callable[..., Episode]


def uids(dataset: Dataset) -> list[str]:
    return [record.uid for record in dataset.episodes]


def hashes(root: str) -> dict[str, str]:
    """All files, by their content."""
    files = [path for path in Path(root).rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def dataset(make_dataset: MakeDataset) -> Dataset:
    return make_dataset([[3, 4], [5, 6]])


def test_keep_only(dataset: Dataset, assert_same: Callable[[Episode, Episode], None]) -> None:
    before, all_uids = hashes(dataset.url), uids(dataset)
    assert keep_only(dataset, Selection(min_length=4, max_length=5), "middle") == 3
    after = Dataset.open(dataset.url)
    assert uids(after) == all_uids[1:3]
    assert (after.manifest.reason, after.manifest.parent) == ("middle", 2)
    assert after.manifest.segments == dataset.manifest.segments
    assert len(after) == 9
    for new, old in enumerate([1, 2]):
        assert_same(after.read_episode(new), dataset.read_episode(old))
    old = Dataset.open(dataset.url, manifest=2)
    assert uids(old) == all_uids
    assert {name: digest for name, digest in hashes(dataset.url).items() if name in before} == before
    assert keep_only(after, Selection(min_length=4), "all fit") == 3  # nothing changes, nothing is published
    with pytest.raises(DatasetError, match=r"no episode fits \(min_length=50\); nothing was published"):
        keep_only(after, Selection(min_length=50), "none")
    assert read_manifest(dataset.url).number == 3


def test_episodes_that_come_meanwhile_are_kept(dataset: Dataset, contract: Contract, make_episode: MakeEpisode) -> None:
    with SegmentWriter(dataset.url, contract, {}) as writer:
        writer.append(make_episode(1, 50))
        publish(dataset.url, [writer.seal()], "meanwhile")
    assert keep_only(dataset, Selection(min_length=5), "long ones") == 4
    assert [record.length for record in Dataset.open(dataset.url).episodes] == [5, 6, 1]


def test_relabel(dataset: Dataset) -> None:
    first, _, third, _ = uids(dataset)
    changes: dict[str, dict[str, Any]] = {
        first: {"instruction": "räume auf 🧱", "success": None, "instruction_alternatives": ["a", "b"]},
        third: {"task": "pull", "split": "val", "success": False},
    }
    assert relabel(dataset, changes, "checked") == 3
    records = list(Dataset.open(dataset.url).episodes)
    assert (records[0].instruction, records[0].success) == ("räume auf 🧱", None)
    assert records[0].instruction_alternatives == ("a", "b")
    assert records[0].task == "put"
    assert (records[2].task, records[2].split, records[2].success) == ("pull", "val", False)
    assert records[1] == dataset.episodes[1]
    episode = Dataset.open(dataset.url).read_episode(0)
    assert (episode.instruction, episode.success) == ("räume auf 🧱", None)
    assert Dataset.open(dataset.url, manifest=2).episodes[0] == dataset.episodes[0]
    assert relabel(Dataset.open(dataset.url), {first: {"success": True}}, "after all") == 4
    record = Dataset.open(dataset.url).episodes[0]
    assert (record.success, record.instruction) == (True, "räume auf 🧱")  # what was said before still holds
    assert relabel(Dataset.open(dataset.url), {first: {"success": True}}, "again") == 4
    assert validate(dataset.url, "full") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instruction": ""}, "instruction cannot be ''"),
        ({"instruction": " \n"}, "instruction cannot be"),
        ({"instruction": 7}, "instruction cannot be 7"),
        ({"instruction": "\ud800"}, "instruction cannot be .* UTF-8"),
        ({"instruction_alternatives": ["fine", "\udfff"]}, "instruction_alternatives cannot be"),
        ({"instruction_alternatives": "text"}, "instruction_alternatives cannot be"),
        ({"instruction_alternatives": [1]}, "instruction_alternatives cannot be"),
        ({"success": "yes"}, "success cannot be 'yes'"),
        ({"success": 1}, "success cannot be 1"),
        ({"split": None}, "split cannot be None"),
        ({"sucess": True}, "'sucess'.*'success'"),
        ({"seed": 3}, "'seed'"),
    ],
)
def test_what_cannot_be_said_publishes_nothing(dataset: Dataset, change: dict[str, Any], message: str) -> None:
    with pytest.raises(VlaError, match=message):
        relabel(dataset, {uids(dataset)[0]: change}, "no")
    assert read_manifest(dataset.url).number == 2


def test_unknown_episodes_publish_nothing(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"no episode 'nobody' in version 2"):
        relabel(dataset, {uids(dataset)[0]: {"success": False}, "nobody": {"success": True}}, "no")
    assert read_manifest(dataset.url).number == 2


def test_concurrent_changes_all_survive(dataset: Dataset, contract: Contract, make_episode: MakeEpisode) -> None:
    """Everybody starts from version 2."""
    all_uids = uids(dataset)
    with SegmentWriter(dataset.url, contract, {}) as writer:
        writer.append(make_episode(2, 60))
        segment = writer.seal()
    jobs: list[Callable[[], int]] = [
        lambda: relabel(dataset, {all_uids[0]: {"success": False}}, "a"),
        lambda: relabel(dataset, {all_uids[0]: {"task": "pull"}}, "b"),
        lambda: relabel(dataset, {all_uids[1]: {"split": "val"}}, "c"),
        lambda: keep_only(dataset, Selection(uids=tuple(all_uids[:3])), "d"),
        lambda: publish(dataset.url, [segment], "e"),
    ]
    with ThreadPoolExecutor(len(jobs)) as pool:
        numbers = [future.result() for future in [pool.submit(job) for job in jobs]]
    assert sorted(numbers) == [3, 4, 5, 6, 7]
    after = Dataset.open(dataset.url)
    assert uids(after) == [*all_uids[:3], f"{segment}-000000"]
    assert (after.episodes[0].success, after.episodes[0].task) == (False, "pull")
    assert after.episodes[1].split == "val"
    for number in numbers:  # and each version is one more change
        Dataset.open(dataset.url, manifest=number)


def test_split(dataset: Dataset) -> None:
    assigned = assign_splits(dataset, {"train": 0.5, "val": 0.25, "test": 0.25}, seed=0)
    assert sorted(change["split"] for change in assigned.values()) == ["test", "train", "train", "val"]
    relabel(dataset, assigned, "split")
    after = Dataset.open(dataset.url)
    assert Selection(splits=("train",)).mask(after.episodes).sum() == 2
    assert assign_splits(after, {"train": 0.5, "val": 0.25, "test": 0.25}, seed=0) == assigned
    assert any(
        assign_splits(dataset, {"a": 0.5, "b": 0.5}, 0) != assign_splits(dataset, {"a": 0.5, "b": 0.5}, s)
        for s in range(1, 6)
    )


@pytest.mark.parametrize("shares", [{}, {"train": 0.5}, {"train": 1.5, "val": -0.5}, {"train": float("nan")}])
def test_shares_must_add_up(dataset: Dataset, shares: dict[str, float]) -> None:
    with pytest.raises(DatasetError, match="expected shares with a sum of 1"):
        assign_splits(dataset, shares, 0)


def test_most_stay_when_others_come(make_dataset: MakeDataset, contract: Contract, make_episode: MakeEpisode) -> None:
    dataset = make_dataset([[1] * 60])
    before = assign_splits(dataset, {"train": 0.8, "val": 0.2}, 0)
    with SegmentWriter(dataset.url, contract, {}) as writer:
        for seed in range(100, 106):
            writer.append(make_episode(1, seed))
        publish(dataset.url, [writer.seal()], "more")
    after = assign_splits(Dataset.open(dataset.url), {"train": 0.8, "val": 0.2}, 0)
    moved = sum(after[uid] != change for uid, change in before.items())
    assert moved <= 6
    assert sum(change["split"] == "val" for change in after.values()) == 13  # a fifth of 66


@given(
    weights=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(sum),
    tasks=st.lists(st.sampled_from("ab"), min_size=1, max_size=30),
    seed=st.integers(0, 3),
)
def test_every_task_has_its_shares(weights: list[int], tasks: list[str], seed: int) -> None:
    shares = {f"s{number}": weight / sum(weights) for number, weight in enumerate(weights)}
    assigned = assign_splits(_of_tasks(tasks), shares, seed)
    assert len(assigned) == len(tasks)
    for task in set(tasks):
        mine = [assigned[f"uid{n}"]["split"] for n, name in enumerate(tasks) if name == task]
        for name, share in shares.items():
            assert abs(mine.count(name) - share * len(mine)) <= 1


def _of_tasks(tasks: list[str]) -> Dataset:
    """A dataset in RAM, with an index and nothing else."""
    from vla.datasets.storage.storage import LocalStorage
    from vla.datasets.store.layout import Description
    from vla.datasets.store.manifest import Manifest
    from vla.datasets.store.records import EpisodeIndex, EpisodeRecord, encode_records

    about = {"start": 0, "length": 1, "instruction": "x", "instruction_alternatives": (), "success": None, "seed": 0}
    records = [
        EpisodeRecord(uid=f"uid{n}", task=task, split="train", content_hash=f"{n:032x}", **about)  # type: ignore[arg-type]
        for n, task in enumerate(tasks)
    ]
    contract = Contract(robot="none", cameras=(), state=(), action=(), control_hz=1.0)
    index = EpisodeIndex.build([("here", encode_records(records))])
    version = Manifest(number=1, parent=None, segments=("x",), created="", reason="")
    return Dataset(LocalStorage(Path("/nowhere")), Description(contract=contract, codecs={}), version, index, [])


def test_numbers_of_an_index_survive_edits(dataset: Dataset) -> None:
    """Steps of a version follow each other, whatever was dropped."""
    keep_only(dataset, Selection(uids=(uids(dataset)[1], uids(dataset)[3])), "two")
    after = Dataset.open(dataset.url)
    assert after.episode_starts.tolist() == [0, 4]
    np.testing.assert_array_equal(after.state[:4], dataset.state[3:7])
    np.testing.assert_array_equal(after.state[4:], dataset.state[12:])
