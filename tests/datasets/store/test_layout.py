"""What the files of a dataset must say, and what is said about a full disk."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.sealed import COMMIT, files_table
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.storage.storage import LocalStorage
from vla.datasets.store.documents import encode
from vla.datasets.store.layout import (
    explain_full_disk,
    image_name,
    now,
    read_commit,
    read_description,
    row_kinds,
    sealed_segments,
    segment_name,
)

MakeDataset = Callable[[list[list[int]]], Dataset]


def test_description(tmp_path: Path, contract: Contract) -> None:
    create_dataset(tmp_path, contract, {"wrist": "jpeg"})
    description = read_description(LocalStorage(tmp_path))
    assert description.contract == contract
    assert description.codecs == {"front": "zstd", "wrist": "jpeg"}
    for value in ({}, {"contract": 3}, {"contract": None}):
        (tmp_path / "dataset.json").write_bytes(encode(value))
        with pytest.raises(DatasetError, match=r"dataset\.json is damaged: it holds no contract"):
            read_description(LocalStorage(tmp_path))
    (tmp_path / "dataset.json").write_bytes(encode({"contract": contract.to_json()}))
    assert read_description(LocalStorage(tmp_path)).codecs == {"front": "zstd", "wrist": "zstd"}


def test_shapes(contract: Contract) -> None:
    assert {name: shape for name, (_, shape) in row_kinds(contract).items()} == {
        "state": (5,),
        "action": (4,),
        "action_executed": (4,),
        "reward": (),
        "done": (),
        "valid": (),
        "time_ns": (),
        "command_time_ns": (),
        "signals/place": (3,),
        "signals/force": (2,),
    }


def test_names_sort_as_they_were_made() -> None:
    names = [image_name("front", number) for number in (0, 9, 10, 99_999, 100_000, 999_999)]
    assert names == sorted(names)
    times = [now() for _ in range(3)]
    assert times == sorted(times)
    assert all(time.endswith("+00:00") for time in times)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"steps": 1, "episodes": 1},
        {"steps": 1, "episodes": 1, "files": {"a": 1}},
        {"steps": 1, "episodes": 1, "files": {"a": {"bytes": 1}}},
        {"steps": 1, "episodes": 1, "files": []},
        {"steps": "x", "episodes": 1, "files": {}},
        {"steps": None, "episodes": 1, "files": {}},
        {"steps": 1, "episodes": 1, "files": {}, "replaces": 3},
    ],
)
def test_a_commit_record_that_lacks_something(tmp_path: Path, value: dict) -> None:
    folder = tmp_path / "segments" / "x"
    folder.mkdir(parents=True)
    (folder / COMMIT).write_bytes(encode(value))
    with pytest.raises(DatasetError, match=r"COMMIT\.json is damaged .*; run vla data repair, restore the segment"):
        read_commit(LocalStorage(tmp_path), "x")


def test_a_commit_record_says_what_it_holds(make_dataset: MakeDataset) -> None:
    data = make_dataset([[3, 2]])
    (segment,) = data.manifest.segments
    commit = read_commit(data.storage, segment)
    assert (commit.steps, commit.episodes, commit.replaces) == (5, 2, ())
    value = json.loads(data.storage.read(f"{segment_name(segment)}/{COMMIT}"))
    assert value["files"] == files_table(commit.files)


def test_only_whole_segments_are_sealed(make_dataset: MakeDataset) -> None:
    data = make_dataset([[1], [2], [3], [1], [2], [1]])
    root, names = Path(data.url), data.manifest.segments
    folders = [root / segment_name(name) for name in names]
    assert sealed_segments(data.storage) == list(names)
    (folders[1] / COMMIT).unlink()
    (folders[2] / COMMIT).write_bytes((folders[2] / COMMIT).read_bytes()[:-2])
    (folders[3] / "data.zarr" / image_name("front", 0) / "zarr.json").unlink()
    with (folders[4] / "episodes.json").open("ab") as file:
        file.write(b" ")
    (root / "segments" / "a file").touch()
    folders[5].rename(folders[5].with_name(f".tmp-{names[5]}-host-1"))
    assert sealed_segments(data.storage) == [names[0]]
    read_commit(data.storage, names[3], check_sizes=False)
    with pytest.raises(DatasetError, match=rf"Segment {names[1]} was never sealed; run vla data repair"):
        read_commit(data.storage, names[1], check_sizes=False)


def test_only_full_disks_are_explained(make_dataset: MakeDataset) -> None:
    storage = make_dataset([[1, 2], [3]]).storage
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        with (
            pytest.raises(DatasetError, match=r"disk full while writing x \(why\); 3 episodes sealed before are safe"),
            explain_full_disk(storage, "x"),
        ):
            raise OSError(number, "why")
    with pytest.raises(PermissionError), explain_full_disk(storage, "x"):
        raise PermissionError(errno.EACCES, "no")
    with pytest.raises(KeyError), explain_full_disk(storage, "x"):
        raise KeyError("no")


def test_a_full_disk_before_anything_was_sealed(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="; 0 episodes"), explain_full_disk(LocalStorage(tmp_path), "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
