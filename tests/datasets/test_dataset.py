"""Opening a dataset: all of it in order, any damage named, other processes welcome."""

import json
import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla.core.contract import Camera, Contract
from vla.core.errors import ContractError, DatasetError, UnknownNameError
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.store.layout import LOW_DIMENSIONAL, read_commit, segment_name
from vla.datasets.store.manifest import manifest_name, publish, publish_change
from vla.datasets.store.segment import SegmentWriter

MakeDataset = Callable[[list[list[int]]], Dataset]
MakeEpisode = Callable[..., Episode]
Same = Callable[[Episode, Episode], None]
LENGTHS = [[3, 5], [1], [4, 2, 6]]
FLAT = [steps for segment in LENGTHS for steps in segment]


def test_segments_follow_each_other(make_dataset: MakeDataset, make_episode: MakeEpisode) -> None:
    data = make_dataset(LENGTHS)
    assert len(data) == sum(FLAT)
    assert data.episode_lengths.tolist() == FLAT
    assert data.episode_starts.tolist() == [0, 3, 8, 9, 13, 15]
    episodes = [make_episode(steps, seed) for seed, steps in enumerate(FLAT)]
    for name in LOW_DIMENSIONAL:
        found = getattr(data, name)
        np.testing.assert_array_equal(found, np.concatenate([getattr(e, name) for e in episodes]))
        assert not found.flags.writeable
    assert list(data.signals) == ["place", "force"]
    for name, found in data.signals.items():
        np.testing.assert_array_equal(found, np.concatenate([e.signals[name] for e in episodes]))
        assert not found.flags.writeable
    for camera in ("front", "wrist"):
        images = np.concatenate([e.images[camera] for e in episodes])
        np.testing.assert_array_equal(np.stack([data.frame(camera, i) for i in range(len(data))]), images)
    for index in (-1, len(data)):
        with pytest.raises(IndexError, match=f"step {index} of 21"):
            data.frame("front", index)
    with pytest.raises(DatasetError, match="no camera 'side'; it has front, wrist"):
        data.frame("side", 0)
    assert repr(data) == f"Dataset({data.url!r}, version 3, 6 episodes)"


def test_frames_at_any_steps(make_dataset: MakeDataset, make_episode: MakeEpisode) -> None:
    data = make_dataset(LENGTHS)
    images = np.concatenate([make_episode(steps, seed).images["wrist"] for seed, steps in enumerate(FLAT)])
    steps = np.random.default_rng(0).integers(0, len(data), 50)
    out = np.empty((50, 6, 8, 3), np.uint8)
    data.read_frames("wrist", steps, out)
    np.testing.assert_array_equal(out, images[steps])
    data.read_frames("wrist", steps[:0], out[:0])
    with pytest.raises(DatasetError, match="no camera 'side'"):
        data.read_frames("side", steps, out)


def test_the_latest_frame_of_a_camera_with_a_clock(
    make_rich_dataset: MakeDataset, make_rich_episode: MakeEpisode
) -> None:
    lengths = [[3, 30], [1], [12]]
    data = make_rich_dataset(lengths)
    flat = [steps for segment in lengths for steps in segment]
    for camera in ("fast", "slow-depth", "front"):
        expected = []
        for seed, steps in enumerate(flat):
            episode = make_rich_episode(steps, seed)
            for i, time_ns in enumerate(episode.time_ns):
                frame = i
                if camera in episode.image_time_ns:
                    (before,) = np.nonzero(episode.image_time_ns[camera] <= time_ns)
                    frame = before[-1]
                expected.append(episode.images[camera][frame])
        found = np.empty((len(data), *expected[0].shape), expected[0].dtype)
        data.read_frames(camera, np.arange(len(data)), found)
        np.testing.assert_array_equal(found, np.stack(expected))
        np.testing.assert_array_equal(data.frame(camera, 20), expected[20])


def test_old_versions_stay(make_dataset: MakeDataset) -> None:
    data = make_dataset(LENGTHS)
    assert data.manifest.number == 3
    old = Dataset.open(data.url, manifest=1)
    assert (old.manifest.number, old.episode_lengths.tolist()) == (1, [3, 5])
    with pytest.raises(DatasetError, match=r"000004\.json does not exist"):
        Dataset.open(data.url, manifest=4)


def test_a_version_may_drop_and_relabel(make_rich_dataset: MakeDataset, assert_same: Same) -> None:
    data = make_rich_dataset(LENGTHS)
    uids = [record.uid for record in data.episodes]
    said: dict[str, dict[str, Any]] = {
        uids[0]: {"instruction": "größer 🧱", "instruction_alternatives": ["a"], "success": None, "split": "val"},
        uids[2]: {"task": "dropped"},
        "nobody": {"task": "x"},
    }
    dropped = (uids[1], uids[2], uids[4], "nobody")
    publish_change(data.url, lambda latest: replace(latest, dropped=dropped, overrides=said), "edit")
    new = Dataset.open(data.url)
    kept = [0, 3, 5]
    assert [record.uid for record in new.episodes] == [uids[i] for i in kept]
    assert new.episode_starts.tolist() == [0, 3, 7]
    relabelled: dict[str, Any] = {
        "instruction": "größer 🧱",
        "instruction_alternatives": ("a",),
        "success": None,
        "split": "val",
    }
    assert_same(new.read_episode(0), replace(data.read_episode(0), **relabelled))
    for number, old in enumerate(kept[1:], start=1):
        assert_same(new.read_episode(number), data.read_episode(old))
    for name in LOW_DIMENSIONAL:
        parts = [getattr(data, name)[data.episode_starts[i] :][: FLAT[i]] for i in kept]
        np.testing.assert_array_equal(getattr(new, name), np.concatenate(parts))
    assert new.signals == {}
    for camera in ("front", "fast"):
        for number, old in enumerate(kept):
            for step in range(FLAT[old]):
                found = new.frame(camera, int(new.episode_starts[number]) + step)
                np.testing.assert_array_equal(found, data.frame(camera, int(data.episode_starts[old]) + step))
    assert_same(Dataset.open(data.url, manifest=3).read_episode(0), data.read_episode(0))


def test_a_version_that_drops_everything(make_rich_dataset: MakeDataset) -> None:
    data = make_rich_dataset([[2], [1]])
    uids = tuple(record.uid for record in data.episodes)
    publish_change(data.url, lambda m: replace(m, dropped=uids), "none")
    empty = Dataset.open(data.url)
    assert (len(empty), len(empty.episodes), empty.action.shape) == (0, 0, (0, 4))
    with pytest.raises(IndexError):
        empty.frame("fast", 0)
    with pytest.raises(IndexError):
        empty.read_episode(0)


def test_episodes_are_counted_from_either_end(make_dataset: MakeDataset, assert_same: Same) -> None:
    data = make_dataset(LENGTHS)
    assert_same(data.read_episode(-1), data.read_episode(5))
    assert_same(data.read_episode(np.int64(2)), data.read_episode(2))
    for number in (6, -7):
        with pytest.raises(IndexError):
            data.read_episode(number)


def test_other_processes(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(make_dataset(LENGTHS).url)
    monkeypatch.chdir(root.parent)
    data = Dataset.open(root.name, manifest=2)
    expected = data.frame("front", 8)
    assert len(pickle.dumps(data)) < 1000
    monkeypatch.chdir("/")
    copy = pickle.loads(pickle.dumps(data))
    assert copy.manifest == data.manifest
    np.testing.assert_array_equal(copy.action, data.action)
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            np.testing.assert_array_equal(pool.apply(data.frame, ("front", 8)), expected)
            pool.close()
            pool.join()


def test_a_contract_without_signals(tmp_path: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    plain = replace(contract, signals={})
    create_dataset(tmp_path, plain)
    with SegmentWriter(tmp_path, plain, {}) as writer:
        writer.append(make_episode(4, signals={}))
        publish(tmp_path, [writer.seal()], "test")
    data = Dataset.open(tmp_path)
    assert data.read_episode(0).signals == data.signals == {}
    assert not (tmp_path / segment_name(data.manifest.segments[0]) / "data.zarr/signals").exists()


def test_create_again(tmp_path: Path, contract: Contract) -> None:
    create_dataset(tmp_path, contract, {"front": "raw"})
    before = (tmp_path / "dataset.json").read_text()
    create_dataset(tmp_path, replace(contract, versions={"vla": "9"}))
    assert (tmp_path / "dataset.json").read_text() == before
    with pytest.raises(ContractError, match=r"existing dataset .*control_hz: 5\.0 ≠ 20\.0"):
        create_dataset(tmp_path, replace(contract, control_hz=5.0))


def test_what_cannot_be_created(tmp_path: Path, contract: Contract, rich_contract: Contract) -> None:
    with pytest.raises(DatasetError, match="codec 'jpeg' cannot hold depth"):
        create_dataset(tmp_path, rich_contract, {"depth": "jpeg"})
    with pytest.raises(UnknownNameError, match=r"camera 'side'.*front"):
        create_dataset(tmp_path, contract, {"side": "zstd"})
    with pytest.raises(UnknownNameError, match=r"frame codec 'png'.*jpeg"):
        create_dataset(tmp_path, contract, {"front": "png"})
    with pytest.raises(DatasetError, match="rename it"):
        create_dataset(tmp_path, replace(contract, cameras=(Camera(name="a/b", height=1, width=1),)))
    assert list(tmp_path.iterdir()) == []


def test_another_robot(make_dataset: MakeDataset, contract: Contract) -> None:
    data = make_dataset([[2]])
    data.require_contract(contract, "the policy")
    with pytest.raises(ContractError, match=r"the policy does not fit dataset .*robot: 'other' ≠ 'arm'"):
        data.require_contract(replace(contract, robot="other"), "the policy")


def test_missing_folders(tmp_path: Path, contract: Contract) -> None:
    with pytest.raises(DatasetError, match=r"dataset\.json does not exist.*check the path"):
        Dataset.open(tmp_path / "nowhere")
    create_dataset(tmp_path, contract)
    with pytest.raises(DatasetError, match="nothing has been published"):
        Dataset.open(tmp_path)


def test_a_newer_format(make_dataset: MakeDataset) -> None:
    path = Path(make_dataset([[2]]).url)
    value = json.loads((path / "dataset.json").read_text())
    (path / "dataset.json").write_text(json.dumps({**value, "format_version": "3.0"}))
    with pytest.raises(DatasetError, match=r"format version 3\.0, this software reads 2\.x; use a version"):
        Dataset.open(path)


def test_a_truncated_manifest(make_dataset: MakeDataset) -> None:
    path = Path(make_dataset(LENGTHS).url)
    manifest = path / manifest_name(3)
    text = manifest.read_text()
    for size in (0, 1, len(text) // 2, len(text) - 3, len(text) - 1):
        manifest.write_text(text[:size])
        with pytest.raises(DatasetError, match=r"000003\.json is damaged.*manifest=2"):
            Dataset.open(path)
    assert len(Dataset.open(path, manifest=2)) == 9


def test_every_damaged_file_is_named(make_dataset: MakeDataset, make_rich_dataset: MakeDataset) -> None:
    for data, least in ((make_dataset([[3, 2]]), 30), (make_rich_dataset([[3, 2]]), 40)):
        folder = Path(data.url) / segment_name(data.manifest.segments[0])
        files = [p for p in folder.rglob("*") if p.is_file() and p.name != "COMMIT.json"]
        assert len(files) >= least
        for path in files:
            content = path.read_bytes()
            path.unlink()
            with pytest.raises(DatasetError, match=f"{path} is missing"):
                Dataset.open(data.url)
            path.write_bytes(content[:-1])
            with pytest.raises(DatasetError, match=rf"{path}: expected .* bytes, got"):
                Dataset.open(data.url)
            path.write_bytes(content)
        read_everything(data.url)


def test_no_changed_byte_is_read_as_data(make_rich_dataset: MakeDataset, assert_same: Same) -> None:
    """Files that hold data; groups and the copy of dataset.json are not read, and the check of a store reads all."""
    data = make_rich_dataset([[3, 2]])
    expected = [data.read_episode(i) for i in range(2)]
    folder = Path(data.url) / segment_name(data.manifest.segments[0])
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "zarr.json"]
    caught = 0
    for path in files:
        content = path.read_bytes()
        for place in (4, len(content) // 2, len(content) - 9):
            changed = bytearray(content)
            changed[place] ^= 0xFF
            path.write_bytes(changed)
            try:
                found = read_everything(data.url)
            except DatasetError as error:
                caught += path.relative_to(folder).as_posix().split("/c/")[0] in str(error)
            else:
                assert path.name == "dataset.json"
                for a, b in zip(found, expected, strict=True):
                    assert_same(a, b)
        path.write_bytes(content)
    assert caught == 3 * (len(files) - 1)
    read_everything(data.url)


def read_everything(url: str) -> list[Episode]:
    data = Dataset.open(url)
    return [data.read_episode(i) for i in range(len(data.episodes))]


def test_arrays_are_read_when_they_are_used(make_dataset: MakeDataset) -> None:
    data = make_dataset([[3], [2]])
    path = Path(data.url) / segment_name(data.manifest.segments[1]) / "data.zarr" / "reward" / "c" / "0"
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    opened = Dataset.open(data.url)
    assert opened.action.shape == (5, 4)
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"data\.zarr/reward/c/0: the file fails its checksum"):
            _ = opened.reward
    assert data.frame("front", 4).shape == (6, 8, 3)


def test_swapped_files_of_equal_size_are_noticed(make_dataset: MakeDataset) -> None:
    data = make_dataset([[3, 3]])
    folder = Path(data.url) / segment_name(data.manifest.segments[0]) / "data.zarr"
    for a, b in (("action", "action_executed"), ("time_ns", "command_time_ns")):
        one, two = folder / a / "c", folder / b / "c"
        sizes = [sum(p.stat().st_size for p in place.rglob("*") if p.is_file()) for place in (one, two)]
        if sizes[0] != sizes[1]:
            continue
        one.rename(folder / "x")
        two.rename(one)
        (folder / "x").rename(two)
        with pytest.raises(DatasetError, match=rf"{a}/c/.* fails its checksum"):
            read_everything(data.url)
        return
    pytest.fail("no two arrays of equal size")


def test_a_segment_with_other_counts(make_dataset: MakeDataset) -> None:
    """Two whole files that do not belong together."""
    data = make_dataset([[3, 2], [4]])
    folders = [Path(data.url) / segment_name(segment) for segment in data.manifest.segments]
    for name in ("COMMIT.json", "episodes.json"):
        shutil.copy(folders[1] / name, folders[0] / name)
    with pytest.raises(DatasetError, match=data.manifest.segments[0]):
        Dataset.open(data.url)


def test_a_removed_segment(make_dataset: MakeDataset) -> None:
    data = make_dataset(LENGTHS)
    shutil.rmtree(Path(data.url) / segment_name(data.manifest.segments[1]))
    with pytest.raises(DatasetError, match=f"Segment {data.manifest.segments[1]} was never sealed"):
        Dataset.open(data.url)
    assert len(Dataset.open(data.url, manifest=1)) == 8


def test_one_segment_alone(make_dataset: MakeDataset, make_episode: MakeEpisode, assert_same: Same) -> None:
    data = make_dataset(LENGTHS)
    segment = data.manifest.segments[2]
    one = Dataset.of_segment(data.storage, segment)
    assert one.episode_lengths.tolist() == [4, 2, 6]
    for i in range(3):
        assert_same(one.read_episode(i), make_episode(LENGTHS[2][i], 3 + i))
    files = read_commit(data.storage, segment).files
    assert data.segment_bytes(2) == sum(entry.bytes for entry in files.values())
    assert [data.segment_episodes(i) for i in range(3)] == [2, 1, 3]


def test_indexes_of_shards_are_forgotten(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for one array, each frame is still the right one."""
    data = make_dataset(LENGTHS)
    frames = [data.frame("front", i) for i in range(len(data))]
    monkeypatch.setattr("vla.datasets.dataset._CACHED_INDEX_BYTES", 1)
    small = Dataset.open(data.url)
    for i in np.random.default_rng(0).permutation(len(data)):
        np.testing.assert_array_equal(small.frame("front", i), frames[i])
        assert len(small._readers) == 1


def test_writers_do_not_disturb_who_reads(
    make_dataset: MakeDataset, contract: Contract, make_episode: MakeEpisode, assert_same: Same
) -> None:
    data = make_dataset([[3]])
    with SegmentWriter(data.url, contract, {}) as writer:
        writer.append(make_episode(2, 1))
        assert len(Dataset.open(data.url)) == 3
        segment = writer.seal()
        assert len(Dataset.open(data.url)) == 3
        publish(data.url, [segment], "more")
    assert len(Dataset.open(data.url)) == 5
    assert len(data) == 3
    assert_same(data.read_episode(0), make_episode(3, 0))
