"""Opening a dataset: all of it in order, any damage named, other processes welcome."""

import json
import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla.core.contract import Contract
from vla.core.errors import ContractError, DatasetError
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.layout import LOW_DIMENSIONAL
from vla.datasets.manifest import manifest_path, publish
from vla.datasets.segment import SegmentWriter

MakeDataset = Callable[[list[list[int]]], Dataset]
MakeEpisode = Callable[..., Episode]
LENGTHS = [[3, 5], [1], [4, 2, 6]]


def test_segments_follow_each_other(make_dataset: MakeDataset, make_episode: MakeEpisode) -> None:
    data = make_dataset(LENGTHS)
    flat = [steps for segment in LENGTHS for steps in segment]
    assert len(data) == sum(flat)
    assert data.episode_lengths.tolist() == flat
    assert data.episode_starts.tolist() == [0, 3, 8, 9, 13, 15]
    episodes = [make_episode(steps, seed) for seed, steps in enumerate(flat)]
    for name in LOW_DIMENSIONAL:
        np.testing.assert_array_equal(getattr(data, name), np.concatenate([getattr(e, name) for e in episodes]))
    for camera in ("front", "wrist"):
        images = np.concatenate([e.images[camera] for e in episodes])
        np.testing.assert_array_equal(np.stack([data.frame(camera, i) for i in range(len(data))]), images)
    for index in (-1, len(data)):
        with pytest.raises(IndexError):
            data.frame("front", index)
    with pytest.raises(DatasetError, match="no camera 'side'; it has front, wrist"):
        data.frame("side", 0)


def test_old_versions_stay(make_dataset: MakeDataset) -> None:
    data = make_dataset(LENGTHS)
    assert data.manifest.number == 3
    old = Dataset.open(str(data.path), manifest=1)
    assert (old.manifest.number, old.episode_lengths.tolist()) == (1, [3, 5])


def test_other_processes(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_dataset(LENGTHS)
    monkeypatch.chdir(data.path.parent)
    data = Dataset.open(data.path.name, manifest=2)
    expected = data.frame("front", 8)
    assert len(pickle.dumps(data)) < 1000
    copy = pickle.loads(pickle.dumps(data))
    assert copy.manifest == data.manifest
    np.testing.assert_array_equal(copy.action, data.action)
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            np.testing.assert_array_equal(pool.apply(data.frame, ("front", 8)), expected)
            pool.close()
            pool.join()


def test_a_contract_without_grounding(tmp_path: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    plain = replace(contract, grounding=())
    create_dataset(tmp_path, plain)
    with SegmentWriter(tmp_path, plain, {}) as writer:
        writer.append(make_episode(4, grounding=np.zeros((4, 0), np.float32)))
        publish(tmp_path, [writer.seal()], "test")
    assert Dataset.open(tmp_path).read_episode(0).grounding.shape == (4, 0)


def test_create_again(tmp_path: Path, contract: Contract) -> None:
    create_dataset(tmp_path, contract)
    before = (tmp_path / "dataset.json").read_text()
    create_dataset(tmp_path, replace(contract, versions={"vla": "9"}))
    assert (tmp_path / "dataset.json").read_text() == before
    with pytest.raises(ContractError, match=r"existing dataset .*control_hz: 5\.0 ≠ 20\.0"):
        create_dataset(tmp_path, replace(contract, control_hz=5.0))


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
    path = make_dataset([[2]]).path
    value = json.loads((path / "dataset.json").read_text())
    (path / "dataset.json").write_text(json.dumps({**value, "format_version": "2.0"}))
    with pytest.raises(DatasetError, match=r"format version 2\.0, this software reads 1\.x; use a version"):
        Dataset.open(path)


def test_a_truncated_manifest(make_dataset: MakeDataset) -> None:
    path = make_dataset(LENGTHS).path
    text = manifest_path(path, 3).read_text()
    for size in (0, 1, len(text) // 2, len(text) - 3):
        manifest_path(path, 3).write_text(text[:size])
        with pytest.raises(DatasetError, match=r"000003\.json is damaged.*manifest=2"):
            Dataset.open(path)
    assert len(Dataset.open(path, manifest=2)) == 9


def test_every_damaged_file_is_named(make_dataset: MakeDataset) -> None:
    data = make_dataset([[3, 2]])
    folder = data.path / "segments" / data.manifest.segments[0]
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "COMMIT.json"]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(DatasetError, match="is missing"):
            Dataset.open(data.path)
        path.write_bytes(content[:-1])
        with pytest.raises(DatasetError, match=r"expected .* bytes, got"):
            Dataset.open(data.path)
        flipped = bytearray(content)
        flipped[len(content) // 4] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(DatasetError, match=path.name):
            read_everything(data.path)
        path.write_bytes(content)
    read_everything(data.path)


def read_everything(path: Path) -> None:
    data = Dataset.open(path)
    for i in range(len(data.episodes)):
        data.read_episode(i)


def test_a_removed_segment(make_dataset: MakeDataset) -> None:
    data = make_dataset(LENGTHS)
    shutil.rmtree(data.path / "segments" / data.manifest.segments[1])
    with pytest.raises(DatasetError, match=f"Segment {data.manifest.segments[1]} was never sealed"):
        Dataset.open(data.path)
    assert len(Dataset.open(data.path, manifest=1)) == 8
