"""Versions of a dataset: numbered, immutable, and none lost when many publish."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.dataset import create_dataset
from vla.datasets.layout import manifests_folder, sealed_segments
from vla.datasets.manifest import latest_number, manifest_path, publish, read_manifest
from vla.datasets.segment import SegmentWriter


@pytest.fixture
def root(tmp_path: Path, contract: Contract) -> Path:
    create_dataset(tmp_path / "data", contract)
    return tmp_path / "data"


@pytest.fixture
def seal(root: Path, contract: Contract, make_episode: Callable[..., Episode]) -> Callable[[], str]:
    def seal_one() -> str:
        with SegmentWriter(root, contract, {}) as writer:
            writer.append(make_episode(1))
            return writer.seal()

    return seal_one


def test_each_version_lists_all_segments(root: Path, seal: Callable[[], str]) -> None:
    assert latest_number(root) is None
    a, b = seal(), seal()
    assert publish(root, [a], "first") == 1
    assert publish(root, [b], "second") == 2
    assert read_manifest(root, 1).segments == (a,)
    latest = read_manifest(root)
    assert (latest.number, latest.parent, latest.segments, latest.reason) == (2, 1, (a, b), "second")


def test_publishing_again_adds_nothing(root: Path, seal: Callable[[], str]) -> None:
    segment = seal()
    assert publish(root, [segment], "once") == publish(root, [segment, segment], "twice") == 1


def test_only_sealed_segments_are_published(root: Path, seal: Callable[[], str]) -> None:
    with pytest.raises(DatasetError, match="never sealed"):
        publish(root, [seal(), "000-nothing"], "no")
    with pytest.raises(DatasetError, match="at least one"):
        publish(root, [], "no")
    assert latest_number(root) is None


def _publish_many(root: Path, segments: list[str]) -> None:
    for segment in segments:
        publish(root, [segment], "race")


def test_concurrent_publishers_lose_nothing(root: Path, seal: Callable[[], str]) -> None:
    segments = [seal() for _ in range(24)]
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_publish_many, args=(root, segments[i::4])) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    latest = read_manifest(root)
    assert latest.number == 24
    assert sorted(latest.segments) == sorted(segments)
    for number in range(2, 25):
        assert read_manifest(root, number).segments[:-1] == read_manifest(root, number - 1).segments
    assert all(not path.name.startswith(".") for path in manifests_folder(root).iterdir())


def test_damage_is_explained(root: Path, seal: Callable[[], str]) -> None:
    publish(root, [seal()], "first")
    publish(root, [seal()], "second")
    path = manifest_path(root, 2)
    path.write_text(path.read_text()[:40])
    with pytest.raises(DatasetError, match=r"000002\.json is damaged.*manifest=1"):
        read_manifest(root)
    path.write_text('{"format_version": "1.0", "number": 2}')
    with pytest.raises(DatasetError, match=r"damaged.*manifest=1"):
        read_manifest(root)
    with pytest.raises(DatasetError, match=r"000009\.json does not exist"):
        read_manifest(root, 9)
    assert read_manifest(root, 1).number == 1


def test_nothing_published(root: Path, seal: Callable[[], str]) -> None:
    seal()
    with pytest.raises(DatasetError, match="nothing has been published"):
        read_manifest(root)


def test_a_damaged_segment_is_not_sealed(root: Path, seal: Callable[[], str]) -> None:
    whole, broken, empty = seal(), seal(), seal()
    (root / "segments" / broken / "data.zarr" / "images" / "front" / "c" / "0" / "0" / "0" / "0").unlink()
    (root / "segments" / empty / "COMMIT.json").unlink()
    assert sealed_segments(root) == [whole]
    with pytest.raises(DatasetError, match="is missing"):
        publish(root, [broken], "no")
