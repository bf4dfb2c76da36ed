"""Versions of a dataset: numbered, immutable, and none lost when many publish."""

import dataclasses
import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.dataset import create_dataset
from vla.datasets.store.documents import encode
from vla.datasets.store.layout import segment_name
from vla.datasets.store.manifest import (
    Change,
    Manifest,
    latest_number,
    manifest_name,
    publish,
    publish_change,
    read_manifest,
)
from vla.datasets.store.segment import SegmentWriter


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
    assert publish(str(root), [b], "second") == 2
    first = read_manifest(root, 1)
    assert (first.segments, first.parent) == ((a,), None)
    latest = read_manifest(root)
    assert (latest.number, latest.parent, latest.segments, latest.reason) == (2, 1, (a, b), "second")
    assert first.created <= latest.created


def test_publishing_again_adds_nothing(root: Path, seal: Callable[[], str]) -> None:
    segment = seal()
    assert publish(root, [segment], "once") == publish(root, [segment, segment], "twice") == 1
    assert read_manifest(root).segments == (segment,)


def test_only_sealed_segments_are_published(root: Path, tmp_path: Path, seal: Callable[[], str]) -> None:
    with pytest.raises(DatasetError, match="never sealed"):
        publish(root, [seal(), "000-nothing"], "no")
    with pytest.raises(DatasetError, match="at least one"):
        publish(root, [], "no")
    assert latest_number(root) is None
    with pytest.raises(DatasetError, match="is no dataset"):
        publish(tmp_path / "nowhere", ["x"], "no")
    assert not (tmp_path / "nowhere").exists()


def test_a_damaged_segment_is_not_published(root: Path, seal: Callable[[], str]) -> None:
    broken = seal()
    (root / segment_name(broken) / "data.zarr" / "images" / "front" / "000000" / "c" / "0" / "0" / "0" / "0").unlink()
    with pytest.raises(DatasetError, match=r"images/front/000000/c/0/0/0/0 is missing"):
        publish(root, [broken], "no")
    assert latest_number(root) is None


def test_a_change_is_a_new_version(root: Path, seal: Callable[[], str]) -> None:
    a, b = seal(), seal()
    publish(root, [a, b], "first")
    said = {f"{a}-000000": {"instruction": "größer 🧱", "instruction_alternatives": ["x"], "success": None}}

    def change(latest: Manifest) -> Manifest:
        return replace(latest, segments=(b, a), dropped=("u",), overrides=said)

    assert publish_change(root, change, "relabelled") == 2
    found = read_manifest(root)
    assert (found.segments, found.dropped, found.overrides) == ((b, a), ("u",), said)
    assert (found.number, found.parent, found.reason) == (2, 1, "relabelled")
    assert publish_change(root, lambda latest: latest, "nothing") == 2
    assert latest_number(root) == 2
    assert publish(root, [seal()], "more") == 3  # and what was said stays
    assert read_manifest(root).overrides == said
    assert read_manifest(root, 1).overrides == {}


def test_an_error_in_a_change_publishes_nothing(root: Path, seal: Callable[[], str]) -> None:
    publish(root, [seal()], "first")

    def change(latest: Manifest) -> Manifest:
        raise DatasetError("no such episode")

    with pytest.raises(DatasetError, match="no such episode"):
        publish_change(root, change, "no")
    with pytest.raises(TypeError):
        publish_change(root, lambda latest: replace(latest, overrides={"u": {"task": object()}}), "no")
    assert latest_number(root) == 1
    assert [path.name for path in (root / "manifests").iterdir()] == ["000001.json"]


def _publish_many(root: Path, segments: list[str]) -> None:
    for segment in segments:
        publish(root, [segment], "race")


def _relabel_many(root: Path, uids: list[str]) -> None:
    def relabel(uid: str) -> Change:
        return lambda latest: replace(latest, overrides={**latest.overrides, uid: {"task": uid}})

    for uid in uids:
        publish_change(root, relabel(uid), "race")


def test_concurrent_publishers_lose_nothing(root: Path, seal: Callable[[], str]) -> None:
    segments = [seal() for _ in range(24)]
    uids = [f"u{i}" for i in range(12)]
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_publish_many, args=(root, segments[i::4])) for i in range(4)]
    workers += [context.Process(target=_relabel_many, args=(root, uids[i::2])) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    latest = read_manifest(root)
    assert latest.number == 36
    assert sorted(latest.segments) == sorted(segments)
    assert latest.overrides == {uid: {"task": uid} for uid in uids}
    for number in range(2, 37):
        new, old = read_manifest(root, number), read_manifest(root, number - 1)
        grown = len(new.segments) - len(old.segments), len(new.overrides) - len(old.overrides)
        assert grown in ((1, 0), (0, 1))
        assert new.segments[: len(old.segments)] == old.segments
        assert new.parent == number - 1
    assert all(not path.name.startswith(".") for path in (root / "manifests").iterdir())


def test_damage_is_explained(root: Path, seal: Callable[[], str]) -> None:
    publish(root, [seal()], "first")
    publish(root, [seal()], "second")
    path = root / manifest_name(2)
    text = path.read_text()
    path.write_text(text[:40])
    with pytest.raises(DatasetError, match=r"000002\.json is damaged.*manifest=1"):
        read_manifest(root)
    path.write_text(text.replace("second", "Second"))
    with pytest.raises(DatasetError, match=r"000002\.json is damaged: it fails its checksum.*manifest=1"):
        read_manifest(root)
    with pytest.raises(DatasetError, match=r"000009\.json does not exist.*latest manifest of .* is 2"):
        read_manifest(root, 9)
    assert read_manifest(root, 1).number == 1
    with pytest.raises(DatasetError, match=r"000002\.json is damaged"):
        publish(root, [seal()], "third")  # what it says is not lost silently
    assert latest_number(root) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"number": None},
        {"segments": None},
        {"segments": 3},
        {"overrides": []},
        {"overrides": {"u": 3}},
        {"created": ...},
    ],
)
def test_a_manifest_that_lacks_something(root: Path, seal: Callable[[], str], change: dict) -> None:
    publish(root, [seal()], "first")
    publish(root, [seal()], "second")
    value = {**dataclasses.asdict(read_manifest(root)), **change}
    (root / manifest_name(2)).write_bytes(encode({k: v for k, v in value.items() if v is not ...}))
    with pytest.raises(DatasetError, match=r"000002\.json is damaged.*manifest=1"):
        read_manifest(root)


def test_a_manifest_under_another_number(root: Path, seal: Callable[[], str]) -> None:
    publish(root, [seal()], "first")
    (root / manifest_name(2)).write_bytes((root / manifest_name(1)).read_bytes())
    with pytest.raises(DatasetError, match=r"000002\.json is damaged .*number 1.*manifest=1"):
        publish(root, [seal()], "second")


def test_what_later_versions_add_is_left_alone(root: Path, seal: Callable[[], str]) -> None:
    publish(root, [seal()], "first")
    value = json.loads((root / manifest_name(1)).read_text())
    del value["checksum"], value["dropped"], value["overrides"]  # as before these were added
    (root / manifest_name(1)).write_bytes(encode({**value, "format_version": "2.9", "later": [1]}))
    found = read_manifest(root)
    assert (found.number, found.dropped, found.overrides) == (1, (), {})


def test_nothing_published(root: Path, seal: Callable[[], str]) -> None:
    seal()
    with pytest.raises(DatasetError, match="nothing has been published"):
        read_manifest(root)


def test_files_that_are_no_manifests(root: Path, seal: Callable[[], str]) -> None:
    publish(root, [seal()], "first")
    for name in ("000009.json.bak", ".000009.json.x", "9.json", "latest", "000009"):
        (root / "manifests" / name).touch()
    assert latest_number(root) == 1


def test_numbers_go_on_after_a_million(root: Path, seal: Callable[[], str]) -> None:
    publish(root, [seal()], "first")
    value = {**dataclasses.asdict(read_manifest(root)), "number": 999_999}
    (root / manifest_name(999_999)).write_bytes(encode(value))
    assert publish(root, [seal()], "next") == 1_000_000
    assert publish(root, [seal()], "next") == 1_000_001
    assert read_manifest(root).parent == 1_000_000
