"""Validation, repair and packing of a dataset on a real S3 server, where nothing can be locked or renamed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vla.core.contract import Contract
from vla.core.sealed import COMMIT
from vla.core.types import Episode
from vla.datasets.care.pack import pack
from vla.datasets.care.repair import Repaired, repair
from vla.datasets.care.validate import validate
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.storage.object_storage import ObjectStorage
from vla.datasets.store.layout import segment_name
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.staging import host_name, unfinished

MakeEpisode = Callable[..., Episode]
Same = Callable[[Episode, Episode], None]
BUCKET = "robot-data"


@pytest.fixture
def storage(bucket: Any, tmp_path: Path, contract: Contract) -> ObjectStorage:
    storage = ObjectStorage(f"s3://{BUCKET}/{tmp_path.name}/my data")
    create_dataset(storage, contract)
    return storage


@pytest.fixture
def seal(storage: ObjectStorage, contract: Contract, make_episode: MakeEpisode) -> Callable[..., str]:
    """Seals a segment of episodes of one step with these seeds."""

    def run(*seeds: int, replaces: tuple[str, ...] = ()) -> str:
        with SegmentWriter(storage, contract, {}, replaces=replaces) as writer:
            for seed in seeds:
                writer.append(make_episode(1, seed))
            return writer.seal()

    return run


def key(storage: ObjectStorage, name: str) -> str:
    return f"{storage.url.removeprefix(f's3://{BUCKET}/')}/{name}"


def flip(bucket: Any, storage: ObjectStorage, name: str) -> None:
    data = bytearray(storage.read(name))
    data[len(data) // 2] ^= 1
    bucket.Object(key(storage, name)).put(Body=bytes(data))


def repaired(storage: ObjectStorage) -> Repaired:
    report = repair(storage)
    again = repair(storage)
    assert (again.done, again.lost, again.manifest) == ([], [], None)
    assert [finding for finding in validate(storage, "full") if finding.severity == "error"] == []
    return report


def test_nothing_to_do(storage: ObjectStorage, seal: Callable[..., str]) -> None:
    publish(storage, [seal(0)], "test")
    assert validate(storage, "full") == []
    assert repaired(storage) == Repaired()


def test_orphans_are_published(storage: ObjectStorage, seal: Callable[..., str]) -> None:
    publish(storage, [seal(0)], "test")
    orphan = seal(1)
    assert [finding.where for finding in validate(storage)] == [f"segment {orphan}"]
    report = repaired(storage)
    assert (report.done, report.manifest) == ([f"segment {orphan}: published"], 2)
    assert publish(storage, [orphan], "its writer lives after all") == 2


def test_an_upload_that_goes_on_is_left_alone(storage: ObjectStorage, seal: Callable[..., str], bucket: Any) -> None:
    """To another machine a segment of which the commit record is still to come looks like this."""
    publish(storage, [seal(0)], "test")
    coming = seal(1)
    record = storage.read(f"{segment_name(coming)}/{COMMIT}")
    bucket.Object(key(storage, f"{segment_name(coming)}/{COMMIT}")).delete()
    before = storage.sizes("")
    report = repaired(storage)
    assert (report.done, report.manifest) == ([], None)
    assert report.left == [f"segment {coming}: its upload goes on, or was cut short; delete it if nobody writes"]
    assert storage.sizes("") == before
    assert any("not whole" in finding.what for finding in validate(storage))
    bucket.Object(key(storage, f"{segment_name(coming)}/{COMMIT}")).put(Body=record)  # now it is there
    publish(storage, [coming], "at last")
    assert len(Dataset.open(storage).episodes) == 2


def test_an_upload_that_was_cut_short_goes_on(
    storage: ObjectStorage,
    seal: Callable[..., str],
    bucket: Any,
    tmp_path: Path,
    contract: Contract,
    make_episode: MakeEpisode,
    assert_same: Same,
) -> None:
    """What is committed on this machine is uploaded; a part of it is there already."""
    publish(storage, [seal(0)], "test")
    create_dataset(tmp_path / "local", contract)
    with SegmentWriter(tmp_path / "local", contract, {}) as writer:
        writer.append(make_episode(1, 5))
        segment = writer.seal()
    committed = storage.staging / f".tmp-{segment}-{host_name()}-999999"
    shutil.move(tmp_path / "local" / "segments" / segment, committed)
    files = [path for path in sorted(committed.rglob("*")) if path.is_file() and path.name != COMMIT]
    for path in files[:7]:
        name = f"{segment_name(segment)}/{path.relative_to(committed).as_posix()}"
        bucket.Object(key(storage, name)).put(Body=path.read_bytes())
    report = repaired(storage)
    assert report.done == [f"segment {segment}: its seal was finished", f"segment {segment}: published"]
    assert unfinished(storage) == []
    assert_same(Dataset.open(storage).read_episode(1), make_episode(1, 5))


def test_damage(storage: ObjectStorage, seal: Callable[..., str], bucket: Any) -> None:
    first, second = seal(0, 1), seal(2)
    publish(storage, [first, second], "test")
    flip(bucket, storage, f"{segment_name(first)}/data.zarr/images/front/000000/c/0/0/0/0")
    (finding,) = validate(storage, "full")
    assert (finding.severity, finding.where) == ("error", f"segment {first}")
    report = repaired(storage)
    assert len(report.lost) == 1
    assert [record.uid for record in Dataset.open(storage).episodes] == [f"{first}-000001", f"{second}-000000"]
    assert storage.children("quarantine") == [first]


def test_damaged_documents(storage: ObjectStorage, seal: Callable[..., str], bucket: Any) -> None:
    for seed in range(2):
        publish(storage, [seal(seed)], "test")
    description = storage.read("dataset.json")
    flip(bucket, storage, "manifests/000002.json")
    flip(bucket, storage, "dataset.json")
    report = repaired(storage)
    assert report.manifest == 3
    assert storage.read("dataset.json") == description
    assert storage.children("manifests") == ["000001.json", "000003.json"]
    assert sorted(name.split("-")[0] for name in storage.children("quarantine")) == ["000002.json", "dataset.json"]
    assert len(Dataset.open(storage).episodes) == 2


def test_pack(storage: ObjectStorage, seal: Callable[..., str], make_episode: MakeEpisode, assert_same: Same) -> None:
    for seed in range(3):
        publish(storage, [seal(seed)], "test")
    old = Dataset.open(storage)
    assert pack(storage) == (4, 3, 1)
    new = Dataset.open(storage)
    assert [record.uid for record in new.episodes] == [record.uid for record in old.episodes]
    for number in range(3):
        assert_same(new.read_episode(number), make_episode(1, number))
    assert_same(Dataset.open(storage, manifest=3).read_episode(2), make_episode(1, 2))
    assert pack(storage) == (4, 1, 1)
    assert repaired(storage) == Repaired()


def test_a_copy_that_somebody_may_publish_stays(storage: ObjectStorage, seal: Callable[..., str]) -> None:
    first = seal(0)
    publish(storage, [first], "test")
    copy = seal(0, replaces=(first,))
    report = repaired(storage)
    assert (report.done, report.manifest) == ([], None)
    assert report.left == [f"segment {copy}: a copy that somebody is about to publish, or never did"]
    assert copy in storage.children("segments")
