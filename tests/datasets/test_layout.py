"""The small operations that keep a dataset whole."""

import errno
import json
from pathlib import Path

import pytest

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.datasets.dataset import create_dataset
from vla.datasets.layout import explain_full_disk, put_if_absent, read_commit, read_dataset_contract, read_object


def test_put_if_absent_never_replaces(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "x.json"
    assert put_if_absent(path, {"a": 1})
    assert not put_if_absent(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format_version": "2.0"}', r"format version 2\.0, this software reads 1\.x"),
        ('{"format_version": "1"}', "expected a format_version"),
        ("{}", "expected a format_version"),
        ('{"format_version": "1.0"', "is damaged"),
        ("[1]", "expected a JSON object"),
        ("\xff", "is damaged"),
    ],
)
def test_versions_and_damage(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match=message):
        read_object(path, missing="m", damaged="d")


def test_a_newer_minor_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"format_version": "1.7", "later": 0}')
    assert read_object(path, missing="m", damaged="d")["later"] == 0


def test_contract(tmp_path: Path, contract: Contract) -> None:
    create_dataset(tmp_path, contract)
    assert read_dataset_contract(tmp_path) == contract
    (tmp_path / "dataset.json").write_text('{"format_version": "1.0"}')
    with pytest.raises(DatasetError, match="no contract"):
        read_dataset_contract(tmp_path)


def test_damaged_commit(tmp_path: Path) -> None:
    folder = tmp_path / "segments" / "x"
    folder.mkdir(parents=True)
    for text in ('{"format_version": "1.0"}', '{"format_version": "1.0", "files": {"a": 1}, "frames": 1}', "{"):
        (folder / "COMMIT.json").write_text(text)
        with pytest.raises(DatasetError, match="damaged"):
            read_commit(tmp_path, "x")


def test_only_full_disks_are_explained(tmp_path: Path) -> None:
    with (
        pytest.raises(DatasetError, match=r"disk full while writing x .*; 0 episodes"),
        explain_full_disk(tmp_path, "x"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), explain_full_disk(tmp_path, "x"):
        raise PermissionError(errno.EACCES, "no")
