"""What is sealed and in no version is found, and published without what is live, a copy, or not whole."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vla.core.contract import Contract
from vla.core.types import Episode
from vla.datasets.care.orphans import is_live, publish_orphans, unlisted
from vla.datasets.care.pack import pack
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.storage.storage import LocalStorage
from vla.datasets.store.manifest import latest_number, publish
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.staging import StagedSegment, host_name, unfinished

MakeEpisode = Callable[..., Episode]


@pytest.fixture
def storage(tmp_path: Path, contract: Contract) -> LocalStorage:
    create_dataset(tmp_path / "data", contract)
    return LocalStorage(tmp_path / "data")


@pytest.fixture
def seal(storage: LocalStorage, contract: Contract, make_episode: MakeEpisode) -> Callable[..., str]:
    def run(seed: int, replaces: tuple[str, ...] = ()) -> str:
        with SegmentWriter(storage, contract, {}, replaces=replaces) as writer:
            writer.append(make_episode(1, seed))
            return writer.seal()

    return run


def test_segments_of_any_version_are_listed(storage: LocalStorage, seal: Callable[..., str]) -> None:
    assert unlisted(storage) == []
    first, second, third = seal(0), seal(1), seal(2)
    assert unlisted(storage) == [first, second, third]
    publish(storage, [first, second], "test")
    assert unlisted(storage) == [third]
    pack(storage)
    assert unlisted(storage) == [third]  # what was packed is in an older version
    (storage.root / "manifests" / "000001.json").write_bytes(b"")
    assert unlisted(storage) == [first, second, third]
    (storage.root / "manifests" / "000001.json").unlink()
    assert unlisted(storage) == [first, second, third]


def test_live_writers_publish_themselves(storage: LocalStorage, contract: Contract, make_episode: MakeEpisode) -> None:
    with SegmentWriter(storage, contract, {}) as writer:
        writer.append(make_episode(1))
        segment = writer.seal()
        assert is_live(storage, segment)
        assert unlisted(storage) == [segment]
        assert publish_orphans(storage, "test") is None
    assert not is_live(storage, segment)
    assert not is_live(storage, "nothing")
    assert publish_orphans(storage, "test") == 1
    assert publish_orphans(storage, "test") is None
    assert Dataset.open(storage).manifest.segments == (segment,)


def test_copies_and_damaged_ones_are_not_published(storage: LocalStorage, seal: Callable[..., str]) -> None:
    first = seal(0)
    publish(storage, [first], "test")
    seal(0, replaces=(first,))
    os.remove(storage.root / "segments" / seal(1) / "episodes.json")
    (storage.root / "segments" / seal(2) / "COMMIT.json").write_bytes(b"{")
    assert publish_orphans(storage, "test") is None
    assert latest_number(storage) == 1


def test_committed_folders_are_sealed_first(storage: LocalStorage, seal: Callable[..., str]) -> None:
    """Those of this machine, whose writer is dead; what is not committed stays for a repair."""
    segment, foreign = seal(0), seal(1)
    segments = storage.root / "segments"
    os.rename(segments / segment, segments / f".tmp-{segment}-{host_name()}-999999")
    os.rename(segments / foreign, segments / f".tmp-{foreign}-elsewhere-999999")
    StagedSegment.begin(storage).leave()
    live = StagedSegment.begin(storage)
    shutil.copy(segments / f".tmp-{foreign}-elsewhere-999999" / "COMMIT.json", live.folder)
    assert publish_orphans(storage, "test") == 1
    assert Dataset.open(storage).manifest.segments == (segment,)
    assert not is_live(storage, segment)
    assert len(unfinished(storage)) == 3
    live.abandon()
