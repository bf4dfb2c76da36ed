"""Segments under each other's names, and versions that vanished, are noticed and put in order."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vla.core.errors import DatasetError
from vla.datasets.care.repair import repair
from vla.datasets.care.upgrade import upgrade
from vla.datasets.care.validate import validate
from vla.datasets.dataset import Dataset
from vla.datasets.store.documents import encode
from vla.datasets.store.manifest import publish_change, read_manifest

MakeDataset = Callable[..., Dataset]


def swap(root: Path) -> None:
    first, second, *_ = sorted((root / "segments").iterdir())
    first.rename(root / "x")
    second.rename(first)
    (root / "x").rename(second)


def without_digests(root: Path) -> None:
    """As they were published before there were any: the latest version only."""
    number = read_manifest(root).number
    path = root / "manifests" / f"{number:06d}.json"
    value = json.loads(path.read_text())
    path.write_bytes(encode({k: v for k, v in value.items() if k not in ("digests", "checksum", "format_version")}))


def test_swapped_segments_are_refused_and_put_back(make_dataset: MakeDataset) -> None:
    data = make_dataset([[2], [3], [1]])
    root, uids = Path(data.url), data.episodes.uids.tolist()
    swap(root)
    with pytest.raises(DatasetError, match="swapped or replaced"):
        Dataset.open(root)
    for level in ("quick", "full"):
        assert sum("swapped or replaced" in finding.what for finding in validate(root, level)) == 2
    assert repair(root).lost == []
    assert repair(root).done == []
    assert Dataset.open(root).episodes.uids.tolist() == uids
    assert validate(root, "full") == []


def test_datasets_without_digests_open_and_get_them(make_dataset: MakeDataset) -> None:
    root = Path(make_dataset([[2], [3]]).url)
    without_digests(root)
    assert read_manifest(root).digests == {}
    Dataset.open(root)
    (finding,) = validate(root)
    assert (finding.severity, "vla data upgrade" in finding.what) == ("warning", True)
    assert upgrade(root)
    assert not upgrade(root)
    assert read_manifest(root).digests.keys() == set(read_manifest(root).segments)
    assert validate(root) == []


def test_a_version_that_vanished_is_missed(make_dataset: MakeDataset) -> None:
    root = Path(make_dataset([[2], [3]]).url)
    number = read_manifest(root).number
    (root / "manifests" / f"{number:06d}.json").unlink()
    for act in (lambda: Dataset.open(root), lambda: publish_change(root, lambda latest: latest, "more")):
        with pytest.raises(DatasetError, match=rf"version {number} was published, and .* is gone"):
            act()
    Dataset.open(root, number - 1)
    assert any(f"version {number}" in finding.what for finding in validate(root))
    report = repair(root)
    assert report.manifest == number + 1  # no number is given twice
    assert repair(root).manifest is None
    assert len(Dataset.open(root).episodes) == 2
