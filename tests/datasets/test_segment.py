"""What is sealed is whole and byte for byte what was appended; what is not sealed does not exist."""

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from vla.core.contract import Contract
from vla.core.errors import ContractError, DatasetError
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.layout import LOW_DIMENSIONAL, SHARD_FRAMES, sealed_segments, segments_folder
from vla.datasets.manifest import publish
from vla.datasets.records import content_hash
from vla.datasets.segment import SegmentWriter

MakeEpisode = Callable[..., Episode]
SCRIPT = Path(__file__).with_name("writer_process.py")


@pytest.fixture
def root(tmp_path: Path, contract: Contract) -> Path:
    path = tmp_path / "données du robot"
    create_dataset(path, contract)
    return path


def assert_same(a: Episode, b: Episode) -> None:
    assert set(a.images) == set(b.images)
    arrays = [(a.images[c], b.images[c]) for c in a.images] + [(getattr(a, n), getattr(b, n)) for n in LOW_DIMENSIONAL]
    for x, y in arrays:
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert x.tobytes() == y.tobytes()
    for name in ("instruction", "instruction_alternatives", "task", "split", "seed", "success"):
        assert getattr(a, name) == getattr(b, name)


def test_round_trip_is_byte_identical(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    episodes = [make_episode(steps, seed) for seed, steps in enumerate([1, 30, SHARD_FRAMES, 300, 2])]
    episodes[1] = replace(episodes[1], success=None, instruction="Положи 🧱 auf den größten Teller", split="val")
    with SegmentWriter(root, contract, {"git": "abc"}) as writer:
        uids = [writer.append(episode) for episode in episodes]
        publish(root, [writer.seal()], "test")
    data = Dataset.open(root)
    assert [record.uid for record in data.episodes] == uids
    for i, episode in enumerate(episodes):
        assert_same(data.read_episode(i), episode)
        assert data.episodes[i].content_hash == content_hash(episode)


def test_plain_zarr_reads_the_same(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    episodes = [make_episode(200, 1), make_episode(100, 2)]
    with SegmentWriter(root, contract, {"git": "abc"}) as writer:
        for episode in episodes:
            writer.append(episode)
        segment = writer.seal()
    group = zarr.open(segments_folder(root) / segment / "data.zarr", mode="r")
    assert isinstance(group, zarr.Group)
    assert dict(group.attrs) == {"git": "abc"}
    for camera in ("front", "wrist"):
        expected = np.concatenate([episode.images[camera] for episode in episodes])
        np.testing.assert_array_equal(group[f"images/{camera}"][...], expected)
    for name in LOW_DIMENSIONAL:
        np.testing.assert_array_equal(group[name][...], np.concatenate([getattr(e, name) for e in episodes]))


def test_the_writer_keeps_a_copy(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    episode = make_episode()
    before = episode.action.copy()
    with SegmentWriter(root, contract, {}) as writer:
        writer.append(episode)
        episode.action[:] = 0
        publish(root, [writer.seal()], "test")
    np.testing.assert_array_equal(Dataset.open(root).action, before)


def test_a_refused_episode_changes_nothing(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    bad = make_episode(seed=1)
    bad.action[2, 1] = np.nan
    with SegmentWriter(root, contract, {}) as writer:
        writer.append(make_episode(seed=0))
        with pytest.raises(DatasetError, match=r"action: expected finite numbers.*step 2"):
            writer.append(bad)
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
            raise RuntimeError("robot fell")

    with pytest.raises(RuntimeError, match="robot fell"):
        record()
    assert list(segments_folder(root).iterdir()) == []
    with pytest.raises(DatasetError, match="sealed or abandoned"):
        writer.append(make_episode())


def test_leaving_without_seal_is_an_error(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    with pytest.raises(DatasetError, match="never sealed"), SegmentWriter(root, contract, {}) as writer:
        writer.append(make_episode())
    assert list(segments_folder(root).iterdir()) == []


def test_a_segment_needs_an_episode(root: Path, contract: Contract) -> None:
    with SegmentWriter(root, contract, {}) as writer, pytest.raises(DatasetError, match="at least one episode"):
        writer.seal()


def test_another_robot_is_refused(root: Path, contract: Contract) -> None:
    with pytest.raises(ContractError, match="robot: 'other' ≠ 'arm'"):
        SegmentWriter(root, replace(contract, robot="other"), {})


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path, contract: Contract) -> None:
    with pytest.raises(DatasetError, match="create_dataset"):
        SegmentWriter(tmp_path / "nowhere", contract, {})


def test_commit_lists_every_file(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    with SegmentWriter(root, contract, {}) as writer:
        writer.append(make_episode())
        folder = segments_folder(root) / writer.seal()
    commit = json.loads((folder / "COMMIT.json").read_text())
    found = {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    del found["COMMIT.json"]
    assert {name: entry["bytes"] for name, entry in commit["files"].items()} == found


def test_kill_leaves_no_half_segment(tmp_path: Path) -> None:
    root = tmp_path / "data"
    rng = random.Random(0)
    for sealed in range(4):
        with subprocess.Popen([sys.executable, SCRIPT, "endless", root], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(1 + sealed):
                assert process.stdout.readline() == b"sealed\n"
            time.sleep(rng.uniform(0.0, 0.12))
            process.kill()
        data = Dataset.open(root)
        assert set(data.manifest.segments) <= set(sealed_segments(root))
        assert len(data.episodes) == 3 * len(data.manifest.segments)
        for i, record in enumerate(data.episodes):
            assert content_hash(data.read_episode(i)) == record.content_hash


def assert_full_disk_was_survived(output: bytes) -> None:
    result = json.loads(output)
    assert "disk full while writing segment" in result["message"]
    assert "2 episodes sealed before are safe; free space and run again" in result["message"]
    assert result["entries"] == result["listed"]
    assert result["same"]


def test_file_size_limit(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "full", tmp_path / "data", "200000"]
    assert_full_disk_was_survived(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def test_full_disk(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    mount = f'mount -t tmpfs -o size=6m tmpfs "{tmp_path}"'
    if unshare is None or subprocess.run([unshare, "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root and unshare")
    run = f'{mount} && exec "{sys.executable}" "{SCRIPT}" full "{tmp_path}/data"'
    done = subprocess.run([unshare, "-m", "sh", "-c", run], stdout=subprocess.PIPE, check=True)
    assert_full_disk_was_survived(done.stdout)
