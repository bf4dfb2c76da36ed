"""What is sealed is whole and byte for byte what was appended; what is not sealed does not exist."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr

from tests.running import running
from vla.core.contract import Contract
from vla.core.errors import ContractError, DatasetError, UnknownNameError
from vla.core.sealed import Entry
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.frames.codecs import FRAME_CODECS
from vla.datasets.storage.storage import LocalStorage
from vla.datasets.store.content import content_hash
from vla.datasets.store.layout import (
    LOW_DIMENSIONAL,
    image_name,
    read_commit,
    sealed_segments,
    segment_name,
    sim_state_name,
)
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter

MakeEpisode = Callable[..., Episode]
MakeDataset = Callable[[list[list[int]]], Dataset]
Same = Callable[[Episode, Episode], None]
SCRIPT = Path(__file__).with_name("writer_process.py")


@pytest.fixture
def root(tmp_path: Path, contract: Contract) -> Path:
    path = tmp_path / "données du robot"
    create_dataset(path, contract)
    return path


@pytest.fixture
def rich_root(tmp_path: Path, rich_contract: Contract) -> Path:
    path = tmp_path / "rich"
    create_dataset(path, rich_contract, {"depth": "raw"})
    return path


def entries(root: Path) -> list[str]:
    """What stands in the folder of segments, staged ones too."""
    return sorted(path.name for path in (root / "segments").iterdir()) if (root / "segments").exists() else []


def test_round_trip_is_byte_identical(
    root: Path, contract: Contract, make_episode: MakeEpisode, assert_same: Same
) -> None:
    episodes = [make_episode(steps, seed) for seed, steps in enumerate([1, 30, 300, 2])]
    episodes[1] = replace(episodes[1], success=None, instruction="Положи 🧱 auf den größten Teller", split="val")
    episodes[2] = replace(episodes[2], success=False, instruction_alternatives=(), provenance={"ä": [1, None, 0.1]})
    with SegmentWriter(root, contract, {"git": "abc"}) as writer:
        uids = [writer.append(episode) for episode in episodes]
        assert (writer.episodes, writer.steps) == (4, 333)
        publish(root, [writer.seal()], "test")
    data = Dataset.open(root)
    assert [record.uid for record in data.episodes] == uids
    for i, episode in enumerate(episodes):
        assert_same(data.read_episode(i), episode)
        assert data.episodes[i].content_hash == content_hash(episode)


def test_all_that_a_robot_may_have(
    rich_root: Path, rich_contract: Contract, make_rich_episode: MakeEpisode, assert_same: Same
) -> None:
    episodes = [make_rich_episode(steps, seed) for seed, steps in enumerate([4, 1, 60])]
    episodes.append(make_rich_episode(3, 3, sim_state=None, model="", provenance={}))
    with SegmentWriter(rich_root, rich_contract, {}) as writer:
        for episode in episodes:
            writer.append(episode)
        segment = writer.seal()
    publish(rich_root, [segment], "test")
    data = Dataset.open(rich_root)
    for i, episode in enumerate(episodes):
        assert_same(data.read_episode(i), episode)
        rows = data.read_rows(i)
        assert rows.images == {}
        assert_same(replace(rows, images=episode.images), episode)
    folder = rich_root / segment_name(segment)
    assert len(list((folder / "models").iterdir())) == 2  # one model is that of two episodes
    group: Any = zarr.open_group(folder / "data.zarr", mode="r")
    for camera in rich_contract.cameras:
        for i, episode in enumerate(episodes):
            np.testing.assert_array_equal(group[image_name(camera.name, i)][...], episode.images[camera.name])
    for name in ("fast", "slow-depth"):
        expected = np.concatenate([episode.image_time_ns[name] for episode in episodes])
        np.testing.assert_array_equal(group[f"image_time_ns/{name}"][...], expected)
    for i, episode in enumerate(episodes[:3]):
        assert episode.sim_state is not None
        np.testing.assert_array_equal(group[sim_state_name(i)][...], episode.sim_state)
    assert sim_state_name(3) not in group


def test_plain_zarr_reads_the_same(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    episodes = [make_episode(200, 1), make_episode(100, 2)]
    with SegmentWriter(root, contract, {"operator": "Jürgen"}) as writer:
        for episode in episodes:
            writer.append(episode)
        segment = writer.seal()
    group = zarr.open(root / segment_name(segment) / "data.zarr", mode="r")
    assert isinstance(group, zarr.Group)
    assert dict(group.attrs) == {"operator": "Jürgen"}
    arrays: Any = group
    for camera in ("front", "wrist"):
        assert sorted(arrays[f"images/{camera}"].array_keys()) == ["000000", "000001"]
        for i, episode in enumerate(episodes):
            np.testing.assert_array_equal(arrays[image_name(camera, i)][...], episode.images[camera])
    for name in LOW_DIMENSIONAL:
        np.testing.assert_array_equal(arrays[name][...], np.concatenate([getattr(e, name) for e in episodes]))
    assert sorted(arrays["signals"].array_keys()) == ["force", "place"]
    for name in ("force", "place"):
        signal = np.concatenate([e.signals[name] for e in episodes])
        np.testing.assert_array_equal(arrays[f"signals/{name}"][...], signal)


def test_the_writer_keeps_a_copy(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    episode = make_episode()
    before = episode.action.copy()
    with SegmentWriter(root, contract, {}) as writer:
        writer.append(episode)
        episode.action[:] = 0
        publish(root, [writer.seal()], "test")
    np.testing.assert_array_equal(Dataset.open(root).action, before)


def test_images_that_are_not_contiguous(
    root: Path, contract: Contract, make_episode: MakeEpisode, assert_same: Same
) -> None:
    episode = make_episode()
    images = {
        camera: np.ascontiguousarray(frames.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
        for camera, frames in episode.images.items()
    }
    assert not images["front"][0].flags.c_contiguous
    with SegmentWriter(root, contract, {}) as writer:
        writer.append(replace(episode, images=images, state=np.asfortranarray(episode.state)))
        publish(root, [writer.seal()], "test")
    assert_same(Dataset.open(root).read_episode(0), episode)


def test_codecs_of_one_segment(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    flat = np.broadcast_to(np.arange(6, dtype=np.uint8)[:, None, None] * 40, (7, 6, 8, 3))
    for codecs in ({"front": "jpeg"}, {"wrist": "raw"}, None):
        with SegmentWriter(root, contract, {}, codecs=codecs) as writer:
            writer.append(make_episode(images={"front": flat, "wrist": flat}))
            publish(root, [writer.seal()], "test")
    data = Dataset.open(root)
    for i in range(3):
        images = data.read_episode(i).images
        np.testing.assert_array_equal(images["wrist"], flat)
        np.testing.assert_allclose(images["front"].astype(int), flat, atol=4 if i == 0 else 0)
    with pytest.raises(UnknownNameError, match="jpg"):
        SegmentWriter(root, contract, {}, codecs={"front": "jpg"})


def test_a_refused_episode_changes_nothing(
    root: Path, contract: Contract, make_episode: MakeEpisode, assert_same: Same
) -> None:
    bad = make_episode(seed=1)
    bad.action[2, 1] = np.nan
    with SegmentWriter(root, contract, {}) as writer:
        writer.append(make_episode(seed=0))
        with pytest.raises(DatasetError, match=r"action: expected finite numbers.*step 2"):
            writer.append(bad)
        with pytest.raises(DatasetError, match="provenance: expected JSON"):
            writer.append(make_episode(seed=1, provenance={"loss": float("nan")}))
        writer.append(make_episode(seed=2))
        publish(root, [writer.seal()], "test")
    data = Dataset.open(root)
    assert [record.seed for record in data.episodes] == [0, 2]
    assert_same(data.read_episode(1), make_episode(seed=2))


def test_an_exception_leaves_nothing(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    writer = SegmentWriter(root, contract, {})

    def record() -> None:
        with writer:
            writer.append(make_episode(300))
            assert len(entries(root)) == 1
            raise RuntimeError("robot fell")

    with pytest.raises(RuntimeError, match="robot fell"):
        record()
    assert entries(root) == []
    with pytest.raises(DatasetError, match="sealed or abandoned"):
        writer.append(make_episode())


def test_leaving_without_seal_is_an_error(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    with pytest.raises(DatasetError, match="never sealed"), SegmentWriter(root, contract, {}) as writer:
        writer.append(make_episode())
    assert entries(root) == []


def test_a_segment_needs_an_episode(root: Path, contract: Contract) -> None:
    with SegmentWriter(root, contract, {}) as writer, pytest.raises(DatasetError, match="at least one episode"):
        writer.seal()
    assert entries(root) == []


def test_sealing_twice(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    with SegmentWriter(root, contract, {}) as writer:
        writer.append(make_episode())
        segment = writer.seal()
        for act in (writer.seal, lambda: writer.append(make_episode())):
            with pytest.raises(DatasetError, match="sealed or abandoned: begin a new SegmentWriter"):
                act()
        writer.abandon()
    assert entries(root) == [segment] == sealed_segments(LocalStorage(root))


def test_another_robot_is_refused(root: Path, contract: Contract) -> None:
    with pytest.raises(ContractError, match="robot: 'other' ≠ 'arm'"):
        SegmentWriter(root, replace(contract, robot="other"), {})
    assert entries(root) == []


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path, contract: Contract) -> None:
    with pytest.raises(DatasetError, match="create_dataset"):
        SegmentWriter(tmp_path / "nowhere", contract, {})
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("provenance", [{"x": float("nan")}, {"x": {1}}])
def test_provenance_that_json_cannot_hold_leaves_nothing(root: Path, contract: Contract, provenance: dict) -> None:
    with pytest.raises((TypeError, ValueError), match="JSON"):
        SegmentWriter(root, contract, provenance)
    assert entries(root) == []


def test_commit_lists_every_file(rich_root: Path, rich_contract: Contract, make_rich_episode: MakeEpisode) -> None:
    with SegmentWriter(rich_root, rich_contract, {}, replaces=["a", "b"]) as writer:
        writer.append(make_rich_episode())
        segment = writer.seal()
    folder = rich_root / segment_name(segment)
    commit = read_commit(LocalStorage(rich_root), segment)
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    record = json.loads(found.pop("COMMIT.json"))
    assert (commit.replaces, record["replaces"]) == (("a", "b"), ["a", "b"])
    assert commit.files == {name: Entry(len(data), f"{google_crc32c.value(data):08x}") for name, data in found.items()}
    assert found["dataset.json"] == (rich_root / "dataset.json").read_bytes()


def test_copied_episodes_are_linked(
    make_rich_dataset: MakeDataset, rich_contract: Contract, make_rich_episode: MakeEpisode, assert_same: Same
) -> None:
    data = make_rich_dataset([[3, 4], [2]])
    root = Path(data.url)
    with SegmentWriter(root, rich_contract, {}, replaces=data.manifest.segments) as writer:
        for i in (2, 0):
            writer.copy(data.episodes[i], data.read_rows(i), data.image_files(i))
        writer.append(make_rich_episode(5, 9))
        segment = writer.seal()
    publish(root, [segment], "copied")
    copied = Dataset.open(root)
    for new, old in ((3, 2), (4, 0)):
        assert_same(copied.read_episode(new), data.read_episode(old))
        for name in ("uid", "length", "content_hash", "frames", "model", "provenance"):
            assert getattr(copied.episodes[new], name) == getattr(data.episodes[old], name), name
    assert_same(copied.read_episode(5), make_rich_episode(5, 9))
    shard = "data.zarr/images/front/000000/c/0/0/0/0"
    twin = root / segment_name(data.manifest.segments[1]) / shard
    assert os.path.samefile(root / segment_name(segment) / shard, twin)


def test_damage_is_not_copied(make_dataset: MakeDataset, contract: Contract) -> None:
    data = make_dataset([[3, 4]])
    root = Path(data.url)
    shard = f"{segment_name(data.manifest.segments[0])}/data.zarr/images/wrist/000001/c/0/0/0/0"
    content = bytearray((root / shard).read_bytes())
    content[20] ^= 1
    (root / shard).write_bytes(content)
    with SegmentWriter(root, contract, {}) as writer:
        writer.copy(data.episodes[0], data.read_rows(0), data.image_files(0))
        with pytest.raises(DatasetError, match=rf"{shard}: the file fails its checksum and is not copied"):
            writer.copy(data.episodes[1], data.read_rows(1), data.image_files(1))
    assert entries(root) == list(data.manifest.segments)


def test_kill_leaves_no_half_segment(tmp_path: Path) -> None:
    root = tmp_path / "data"
    rng = random.Random(0)
    for sealed in range(4):
        with running([sys.executable, SCRIPT, "endless", root], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(1 + sealed):
                assert process.stdout.readline() == b"sealed\n"
            time.sleep(rng.uniform(0.0, 0.12))
            process.kill()
        data = Dataset.open(root)
        assert set(data.manifest.segments) <= set(sealed_segments(LocalStorage(root)))
        assert len(data.episodes) == 3 * len(data.manifest.segments)
        for i, record in enumerate(data.episodes):
            assert content_hash(data.read_episode(i)) == record.content_hash


def assert_full_disk_was_survived(output: bytes) -> None:
    result = json.loads(output)
    assert "disk full while writing segment" in result["message"]
    assert "2 episodes sealed before are safe; free space and run again" in result["message"]
    assert result["entries"] == result["listed"]
    assert result["same"]


@pytest.mark.parametrize("more", [-170_000, 0, 240])
def test_file_size_limit(tmp_path: Path, more: int) -> None:
    """In the middle of a frame, after the last one, and in the index of a shard."""
    frames = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), np.uint8)  # the first that is too much
    limit = sum(len(FRAME_CODECS["zstd"].encode(frame)) for frame in frames) + more
    command: list[str | Path] = [sys.executable, "-W", "error", SCRIPT, "full", tmp_path / "data", str(limit)]
    done = subprocess.run(command, capture_output=True, check=True)
    assert_full_disk_was_survived(done.stdout)
    assert b"Error" not in done.stderr  # such as files that were left to the garbage collector
    assert b"Warning" not in done.stderr


def test_full_disk(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    mount = f'mount -t tmpfs -o size=6m tmpfs "{tmp_path}"'
    if unshare is None or subprocess.run([unshare, "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root and unshare")
    run = f'{mount} && exec "{sys.executable}" "{SCRIPT}" full "{tmp_path}/data"'
    done = subprocess.run([unshare, "-m", "sh", "-c", run], stdout=subprocess.PIPE, check=True)
    assert_full_disk_was_survived(done.stdout)
