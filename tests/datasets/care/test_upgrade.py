"""A dataset that version 1 wrote is converted to the last bit, and nothing is lost when that is stopped."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.upgrade.version1 import upgraded_contract
from vla.datasets.care.repair import repair
from vla.datasets.care.upgrade import upgrade
from vla.datasets.care.validate import validate
from vla.datasets.dataset import Dataset
from vla.datasets.storage.storage import LocalStorage
from vla.datasets.store.documents import FormatVersionError, encode
from vla.datasets.store.staging import StagedSegment

WRITTEN = Path(__file__).parents[2] / "version1" / "dataset.zip"
ARRAYS = ("state", "action", "action_executed", "reward", "done", "valid", "time_ns", "command_time_ns")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Three episodes of ``tabletop/place`` in one segment."""
    with zipfile.ZipFile(WRITTEN) as file:
        file.extractall(tmp_path / "my place")
    return tmp_path / "my place"


def assert_converted(root: Path) -> None:
    """Against plain Zarr, with which the old files can be read still."""
    data = Dataset.open(root)
    (segment,) = (root / "version1/segments").iterdir()
    arrays: Any = zarr.open(segment / "data.zarr", mode="r")
    records = json.loads((segment / "episodes.json").read_text())
    assert data.manifest.number == 2
    assert [record.uid for record in data.episodes] == records["uid"]
    assert [record.content_hash for record in data.episodes] == records["content_hash"]
    names = [d["name"] for d in json.loads((root / "version1/dataset.json").read_text())["contract"]["grounding"]]
    start = 0
    for number in range(3):
        episode = data.read_episode(number)
        rows = slice(start, start := start + len(episode))
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(episode, name), arrays[name][rows], strict=True)
        for name, images in episode.images.items():
            np.testing.assert_array_equal(images, arrays[f"images/{name}/{number:06d}"][...], strict=True)
        np.testing.assert_array_equal(episode.sim_state, arrays[f"sim_state/{number:06d}"][...], strict=True)
        for signal, dimensions in data.contract.signals.items():
            columns = [names.index(dimension.name) for dimension in dimensions]
            np.testing.assert_array_equal(episode.signals[signal], arrays["grounding"][rows][:, columns], strict=True)
        said = [episode.instruction, episode.task, episode.split, episode.seed, episode.success]
        assert said == [records[key][number] for key in ("instruction", "task", "split", "seed", "success")]
    assert start == len(data) == arrays["state"].shape[0]
    assert validate(root, "deep") == []


def test_every_bit_is_kept(old: Path) -> None:
    with pytest.raises(FormatVersionError, match=rf"format version 1\.0.*convert it with vla data upgrade {old}"):
        Dataset.open(old)
    steps: list[int] = []
    assert upgrade(old, steps.append)
    assert_converted(old)
    data = Dataset.open(old)
    assert steps == data.episode_lengths.tolist()
    assert [d.unit for d in data.contract.signals["grounding"]] == ["m"] * 5
    assert [d.unit for d in data.contract.signals["pointing"]] == ["image"] * 8
    assert "upgraded_from" in data.provenance(0)


def test_images_are_linked(old: Path) -> None:
    upgrade(old)
    shards = list(old.glob("segments/*/data.zarr/images/**/c/0/0/0/0"))
    assert len(shards) == 6
    assert all(path.stat().st_nlink == 2 for path in shards)
    shutil.rmtree(old / "version1")
    assert validate(old, "deep") == []


def test_twice_is_harmless(old: Path) -> None:
    upgrade(old)
    before = {path: path.stat().st_mtime_ns for path in old.rglob("*")}
    assert not upgrade(old)
    assert {path: path.stat().st_mtime_ns for path in old.rglob("*")} == before
    report = repair(old)
    assert (report.done, report.lost, report.left) == ([], [], [])


@pytest.mark.parametrize("moves", range(8))
def test_killed_while_parts_change_places(old: Path, monkeypatch: pytest.MonkeyPatch, moves: int) -> None:
    move, done = LocalStorage.move, []

    def dying(self: LocalStorage, name: str, target: str) -> None:
        if len(done) == moves:
            raise KeyboardInterrupt
        move(self, name, target)
        done.append(name)

    monkeypatch.setattr(LocalStorage, "move", dying)
    with pytest.raises(KeyboardInterrupt):
        upgrade(old)
    monkeypatch.undo()
    with pytest.raises(FormatVersionError, match="vla data upgrade"):
        Dataset.open(old)
    assert upgrade(old)
    assert_converted(old)
    assert not (old / "version2").exists()


def test_killed_while_it_copies(old: Path) -> None:
    def die(steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upgrade(old, die)
    assert upgrade(old)
    assert_converted(old)


def test_what_a_version_says_otherwise_stays(old: Path) -> None:
    upgrade(old)  # its manifest in format 1 with changes:
    uids = [record.uid for record in Dataset.open(old).episodes]
    manifest = json.loads((old / "version1/manifests/000001.json").read_text())
    shutil.rmtree(old / "segments")
    shutil.rmtree(old / "manifests")
    for part in ("segments", "manifests", "dataset.json"):
        (old / "version1" / part).rename(old / part)
    shutil.rmtree(old / "version1")
    changed = {**manifest, "number": 2, "parent": 1, "dropped": [uids[0]], "overrides": {uids[2]: {"split": "val"}}}
    del changed["checksum"]
    (old / "manifests/000002.json").write_bytes(encode(changed))
    assert upgrade(old)
    data = Dataset.open(old)
    assert data.manifest.number == 3
    assert [(record.uid, record.split) for record in data.episodes] == [(uids[1], "train"), (uids[2], "val")]
    assert validate(old, "deep") == []


def test_damage_is_refused_and_changes_nothing(old: Path) -> None:
    (shard,) = old.glob("segments/*/data.zarr/images/front/000001/c/0/0/0/0")
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match=r"fails its checksum.*Repair it with the version of vla that wrote it"):
        upgrade(old)
    with pytest.raises(FormatVersionError, match="vla data upgrade"):
        Dataset.open(old)
    assert not (old / "version1").exists()


def test_refusals(old: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        upgrade(tmp_path / "nowhere")
    staged = StagedSegment.begin(LocalStorage(old))
    with pytest.raises(DatasetError, match="is being written"):
        upgrade(old)
    staged.abandon()
    (old / "version1").mkdir()
    with pytest.raises(DatasetError, match="is in the way"):
        upgrade(old)


def test_object_stores_are_refused(bucket: Any) -> None:
    with pytest.raises(DatasetError, match="only local datasets"):
        upgrade(f"s3://{bucket.name}/place")


@pytest.mark.parametrize("units", [[], ["m"], ["image"], ["image", "m", "image"]])
def test_contracts(units: list[str], contract: Contract) -> None:
    entries = [{"name": f"e{i}", "unit": unit, "low": 0.0, "high": 1.0} for i, unit in enumerate(units)]
    value = {k: v for k, v in contract.to_json().items() if k != "signals"}
    found = upgraded_contract({**value, "contract_version": 1, "grounding": entries}, where="test")
    names = {name: [d.name for d in signal] for name, signal in found.signals.items()}
    expected = {"grounding": [], "pointing": []}  # type: dict[str, list[str]]
    for i, unit in enumerate(units):
        expected["pointing" if unit == "image" else "grounding"].append(f"e{i}")
    assert names == {name: entries for name, entries in expected.items() if entries}
