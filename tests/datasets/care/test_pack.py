"""Packed and merged datasets say what their sources say, whoever else writes, packs or fails at the same time."""

import hashlib
import multiprocessing
import resource
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla.core.contract import Contract
from vla.core.errors import ContractError, DatasetError
from vla.core.types import Episode
from vla.datasets.care.pack import merge, pack
from vla.datasets.care.repair import Repaired, repair
from vla.datasets.care.validate import validate
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.edit import keep_only, relabel
from vla.datasets.selection import Selection
from vla.datasets.store.manifest import latest_number, publish, read_manifest
from vla.datasets.store.segment import SegmentWriter

MakeDataset = Callable[..., Dataset]
MakeEpisode = Callable[..., Episode]
Same = Callable[[Episode, Episode], None]


def uids(dataset: Dataset) -> list[str]:
    return [record.uid for record in dataset.episodes]


def contents(root: str | Path) -> dict[str, str]:
    files = [path for path in Path(root).rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def assert_all_same(new: Dataset, old: Dataset, same: Same) -> None:
    assert uids(new) == uids(old)
    for number in range(len(old.episodes)):
        same(new.read_episode(number), old.read_episode(number))
        assert replace(new.episodes[number], start=0) == replace(old.episodes[number], start=0)
    np.testing.assert_array_equal(new.state, old.state)


def write(root: Path, contract: Contract, *episodes: Episode, reason: str = "test") -> str:
    create_dataset(root, contract)
    with SegmentWriter(root, contract, {"by": reason}) as writer:
        for episode in episodes:
            writer.append(episode)
        segment = writer.seal()
        publish(root, [segment], reason)
    return segment


@pytest.mark.parametrize("workers", [1, 2])
def test_everything_is_as_before(make_rich_dataset: MakeDataset, assert_same: Same, workers: int) -> None:
    dataset = make_rich_dataset([[3], [3], [4], [3]])
    before = contents(dataset.url)
    pairs = [dataset.segment_bytes(number) + dataset.segment_bytes(number + 1) for number in (0, 2)]
    target = max(pairs) * 1.1 / 1e6 if workers > 1 else 64.0
    seen: list[int] = []
    assert pack(dataset.url, target, workers=workers, on_episode=seen.append) == (5, 4, 2 if workers > 1 else 1)
    assert sum(seen) == 13
    new = Dataset.open(dataset.url)
    assert_all_same(new, dataset, assert_same)
    assert before.items() <= contents(dataset.url).items()
    assert_all_same(Dataset.open(dataset.url, manifest=4), dataset, assert_same)
    assert set(new.provenance(0)["packed_from"]) == set(dataset.manifest.segments[: 2 if workers > 1 else 4])
    assert validate(dataset.url, "full") == []
    assert repair(dataset.url) == Repaired()
    assert pack(dataset.url, target)[0] == 5  # nothing is left to do


def test_frames_are_shared_by_links(make_dataset: MakeDataset) -> None:
    dataset = make_dataset([[3], [2]])
    pack(dataset.url)
    (packed,) = Dataset.open(dataset.url).manifest.segments
    shard = "data.zarr/images/front/{}/c/0/0/0/0"
    old = Path(dataset.url, "segments", dataset.manifest.segments[1], shard.format("000000"))
    assert old.samefile(Path(dataset.url, "segments", packed, shard.format("000001")))


def test_large_segments_stay(make_dataset: MakeDataset, assert_same: Same) -> None:
    dataset = make_dataset([[1], [40], [1], [1]])
    assert pack(dataset.url, dataset.segment_bytes(1) * 1.2 / 1e6) == (5, 4, 3)
    new = Dataset.open(dataset.url)
    assert new.manifest.segments[:2] == dataset.manifest.segments[:2]
    assert_all_same(new, dataset, assert_same)


def test_dropped_episodes_go_and_what_was_relabelled_stays(make_rich_dataset: MakeDataset, assert_same: Same) -> None:
    dataset = make_rich_dataset([[3, 2], [1], [4, 2]])
    all_uids = uids(dataset)
    relabel(dataset, {all_uids[0]: {"task": "pull", "success": None}, all_uids[3]: {"instruction": "größer"}}, "said")
    keep_only(Dataset.open(dataset.url), Selection(uids=(all_uids[0], all_uids[2], all_uids[3])), "three")
    before = Dataset.open(dataset.url)
    pack(dataset.url)
    after = Dataset.open(dataset.url)
    assert_all_same(after, before, assert_same)
    assert after.segment_episodes(0) == 3
    assert (after.episodes[0].task, after.episodes[2].instruction) == ("pull", "größer")
    relabel(after, {all_uids[0]: {"task": "push"}}, "again")
    assert Dataset.open(dataset.url).episodes[0].task == "push"
    assert Dataset.open(dataset.url, manifest=3).episodes[1].uid == all_uids[1]


def test_a_segment_with_dropped_episodes_is_rewritten_alone(make_dataset: MakeDataset) -> None:
    dataset = make_dataset([[3, 2]])
    keep_only(dataset, Selection(max_length=2), "short")
    assert pack(dataset.url) == (3, 1, 1)
    assert Dataset.open(dataset.url).segment_episodes(0) == 1
    assert pack(dataset.url) == (3, 1, 1)


def test_a_dataset_of_another_codec(tmp_path: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    """JPEG is not packed a second time."""
    create_dataset(tmp_path, contract, {"front": "jpeg"})
    for seed in range(2):
        write(tmp_path, contract, make_episode(2, seed))
    old = Dataset.open(tmp_path)
    pack(tmp_path)
    for number in range(2):
        np.testing.assert_array_equal(
            Dataset.open(tmp_path).read_episode(number).images["front"], old.read_episode(number).images["front"]
        )


def test_what_is_published_while_packing_stays(
    make_dataset: MakeDataset, contract: Contract, make_episode: MakeEpisode, assert_same: Same
) -> None:
    dataset = make_dataset([[2], [3], [1]])
    old_uids = uids(dataset)

    def meanwhile(steps: int) -> None:
        if steps == 3:
            write(Path(dataset.url), contract, make_episode(5, 50))
            relabel(dataset, {old_uids[0]: {"task": "pull"}}, "meanwhile")
            keep_only(dataset, Selection(uids=tuple(old_uids[:2])), "meanwhile")

    assert pack(dataset.url, on_episode=meanwhile)[0] == 7
    after = Dataset.open(dataset.url)
    assert uids(after)[:2] == old_uids[:2]
    assert [record.length for record in after.episodes] == [2, 3, 5]
    assert after.episodes[0].task == "pull"
    assert_same(after.read_episode(2), make_episode(5, 50))
    assert len(after.manifest.segments) == 2


def test_two_at_once(make_dataset: MakeDataset) -> None:
    """The second is told at once, and the first goes on."""
    dataset = make_dataset([[2], [3]])
    errors: list[str] = []

    def meanwhile(steps: int) -> None:
        for act in (pack, repair):
            with pytest.raises(DatasetError) as caught:
                act(dataset.url)
            errors.append(str(caught.value))

    assert pack(dataset.url, on_episode=meanwhile) == (3, 2, 1)
    assert len(errors) == 4
    assert all("another pack or repair is at work; wait until it is done" in error for error in errors)


def test_of_many_at_once_one_packs(make_dataset: MakeDataset, assert_same: Same) -> None:
    dataset = make_dataset([[2], [3], [1]])
    barrier = threading.Barrier(4)

    def attempt(number: int) -> bool:
        barrier.wait()
        try:
            return pack(dataset.url)[0] == 4
        except DatasetError as error:
            assert "at work" in str(error)  # noqa: PT017
            return False

    with ThreadPoolExecutor(4) as pool:
        assert any(pool.map(attempt, range(4)))
    assert latest_number(dataset.url) == 4
    assert_all_same(Dataset.open(dataset.url), dataset, assert_same)
    assert repair(dataset.url) == Repaired()


def test_a_damaged_frame_is_not_packed(make_dataset: MakeDataset, assert_same: Same) -> None:
    """The group that has it is refused; what else was packed is published, and repair sees to the rest."""
    dataset = make_dataset([[2], [3], [1], [2]])
    name = "data.zarr/images/front/000000/c/0/0/0/0"
    shard = Path(dataset.url, "segments", dataset.manifest.segments[0], name)
    data = bytearray(shard.read_bytes())
    data[9] ^= 1
    shard.write_bytes(bytes(data))
    target = max(dataset.segment_bytes(n) + dataset.segment_bytes(n + 1) for n in (0, 2)) * 1.05 / 1e6
    with pytest.raises(
        DatasetError, match=f"{name}: the file fails its checksum and is not copied; run vla data repair"
    ):
        pack(dataset.url, target)
    after = Dataset.open(dataset.url)
    assert len(after.manifest.segments) == 3
    assert uids(after) == uids(dataset)
    assert_same(after.read_episode(3), dataset.read_episode(3))
    repair(dataset.url)
    assert uids(Dataset.open(dataset.url)) == uids(dataset)[1:]
    assert repair(dataset.url) == Repaired()


@pytest.mark.parametrize("limit", [0, 500, 2000])
def test_a_full_disk_loses_nothing(make_dataset: MakeDataset, assert_same: Same, limit: int) -> None:
    """Whether files of the new segment or its version cannot be written."""
    dataset = make_dataset([[60], [60]])
    before = contents(dataset.url)

    def attempt(queue: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            queue.put(str(pack(dataset.url)))
        except DatasetError as error:
            queue.put(str(error))

    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=attempt, args=(queue,))
    process.start()
    process.join()
    message = queue.get()
    assert "disk full while writing" in message
    assert "2 episodes sealed before are safe; free space and run again" in message
    assert contents(dataset.url) == before
    assert_all_same(Dataset.open(dataset.url), dataset, assert_same)
    assert pack(dataset.url) == (3, 2, 1)
    assert_all_same(Dataset.open(dataset.url), dataset, assert_same)


# ------------------------------------------------------------------------------------------------------------- merge


@pytest.fixture
def two(tmp_path: Path, contract: Contract, make_episode: MakeEpisode) -> tuple[Path, Path]:
    """Two datasets that have the episode of seed 1 in common."""
    first, second = tmp_path / "first set", tmp_path / "zweiter"
    write(first, contract, make_episode(2, 0), make_episode(3, 1))
    write(second, contract, make_episode(3, 1))
    write(second, contract, make_episode(1, 2), make_episode(2, 3))
    return first, second


@pytest.mark.parametrize("workers", [1, 2])
def test_merge(two: tuple[Path, Path], tmp_path: Path, assert_same: Same, workers: int) -> None:
    target = tmp_path / "both of them"
    seen: list[int] = []
    assert merge(two, target, segment_episodes=2, workers=workers, on_episode=seen.append) == (1, 1)
    a, b, both = Dataset.open(two[0]), Dataset.open(two[1]), Dataset.open(target)
    assert uids(both) == uids(a) + uids(b)[1:]
    for number, (source, old) in enumerate([(a, 0), (a, 1), (b, 1), (b, 2)]):
        assert_same(both.read_episode(number), source.read_episode(old))
    assert both.provenance(1) == {"merged_from": str(two[1]), "manifest": 2, "notes": []}
    assert sorted(seen) == [1, 2, 2, 3]
    assert validate(target, "full") == []
    with pytest.raises(DatasetError, match="all episodes are there already; nothing was merged"):
        merge(two, target)
    assert latest_number(target) == 1


def test_merge_with_duplicates(two: tuple[Path, Path], tmp_path: Path) -> None:
    assert merge(two, tmp_path / "all", allow_duplicates=True) == (1, 0)
    assert len(Dataset.open(tmp_path / "all").episodes) == 5
    findings = validate(tmp_path / "all", "deep")
    assert any(finding.what == "are the same recording" for finding in findings)


def test_merge_into_what_is_there(two: tuple[Path, Path], assert_same: Same) -> None:
    before = Dataset.open(two[0])
    assert merge([two[1]], two[0]) == (2, 1)
    after = Dataset.open(two[0])
    assert uids(after)[:2] == uids(before)
    assert len(after.episodes) == 4
    assert_same(after.read_episode(0), before.read_episode(0))


def test_merge_takes_the_latest_versions_of_its_sources(two: tuple[Path, Path], tmp_path: Path) -> None:
    first = Dataset.open(two[0])
    keep_only(first, Selection(min_length=3), "one")
    relabel(first, {uids(first)[1]: {"task": "pull"}}, "said")
    merge([two[0]], tmp_path / "target")
    (record,) = Dataset.open(tmp_path / "target").episodes
    assert (record.uid, record.task) == (uids(first)[1], "pull")


def test_merge_of_two_robots(
    two: tuple[Path, Path], tmp_path: Path, contract: Contract, make_episode: MakeEpisode
) -> None:
    other = replace(contract, robot="leg", control_hz=10.0)
    write(tmp_path / "other", other, make_episode(1, 9))
    with pytest.raises(ContractError, match=r"different robots: robot: 'arm' ≠ 'leg'; control_hz: 20.0 ≠ 10.0\."):
        merge([two[0], tmp_path / "other"], tmp_path / "target")
    assert not (tmp_path / "target").exists()
    with pytest.raises(ContractError, match="robot: 'arm' ≠ 'leg'"):
        merge([two[0]], tmp_path / "other")
    assert latest_number(tmp_path / "other") == 1
    with pytest.raises(DatasetError, match="expected at least one dataset"):
        merge([], tmp_path / "target")


def test_merge_after_one_that_was_killed(two: tuple[Path, Path], tmp_path: Path) -> None:
    """It had sealed its segments and died before it published them: they are not copied twice."""
    target = tmp_path / "target"
    merge(two, target, segment_episodes=2)
    for published in ("manifests", "witness"):
        (target / published / "000001.json").unlink()
    extra = read_manifest(two[1]).segments[0]
    assert extra
    write(two[1], Dataset.open(two[1]).contract, Dataset.open(two[1]).read_episode(0), reason="again")
    with pytest.raises(DatasetError, match="all episodes are there already"):
        merge(two, target, segment_episodes=2)
    assert sorted(uids(Dataset.open(target))) == sorted(set(uids(Dataset.open(target))))
    assert len(Dataset.open(target).episodes) == 4
    assert repair(target) == Repaired()


def test_merge_with_damage_keeps_the_rest(two: tuple[Path, Path], tmp_path: Path) -> None:
    segment = read_manifest(two[1]).segments[1]
    shard = two[1] / f"segments/{segment}/data.zarr/images/front/000000/c/0/0/0/0"
    data = bytearray(shard.read_bytes())
    data[3] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(DatasetError, match="fails its checksum and is not copied"):
        merge(two, tmp_path / "target", segment_episodes=1)
    assert len(Dataset.open(tmp_path / "target").episodes) == 3
    repair(two[1])
    with pytest.raises(DatasetError, match="all episodes are there already"):
        merge(two, tmp_path / "target")
