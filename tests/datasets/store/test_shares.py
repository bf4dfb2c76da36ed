"""Work shared out to writers: what is sealed is published, also when another share fails; only then that is raised."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vla.core.contract import Contract
from vla.core.types import Episode
from vla.datasets.care.orphans import unlisted
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.storage.storage import Storage, open_storage
from vla.datasets.store.manifest import latest_number
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.shares import write_segments

MakeEpisode = Callable[..., Episode]
Write = Callable[[list[int], Callable[[int], None]], tuple[str | None, int]]


@pytest.fixture
def storage(tmp_path: Path, contract: Contract) -> Storage:
    storage = open_storage(tmp_path)
    create_dataset(storage, contract)
    return storage


@pytest.fixture
def write(storage: Storage, contract: Contract, make_episode: MakeEpisode) -> Write:
    """A segment of the episodes with these seeds: none of an empty share, and a failure of one with a 13."""

    def write(seeds: list[int], report: Callable[[int], None]) -> tuple[str | None, int]:
        if not seeds:
            return None, 0
        with SegmentWriter(storage, contract, {}) as writer:
            for seed in seeds:
                if seed == 13:
                    raise RuntimeError("thirteen")
                writer.append(make_episode(seed=seed))
                report(seed)
            return writer.seal(), len(seeds)

    return write


def _seeds(storage: Storage) -> list[int]:
    return [record.seed for record in Dataset.open(storage).episodes]


def test_all_shares_are_one_version(storage: Storage, write: Write) -> None:
    heard: list[int] = []
    shares = [[1, 2], [], [3]]
    version, results = write_segments(
        storage, write, shares, "a test", workers=1, engine="inline", on_report=heard.append
    )
    assert (version, results, heard) == (1, [2, 0, 1], [1, 2, 3])
    assert _seeds(storage) == [1, 2, 3]
    assert Dataset.open(storage).manifest.reason == "a test"


def test_what_was_sealed_is_published_before_a_failure_is_raised(storage: Storage, write: Write) -> None:
    with pytest.raises(RuntimeError, match="thirteen"):
        write_segments(storage, write, [[1], [2, 13], [3]], "a test", workers=1, engine="inline")
    assert _seeds(storage) == [1, 3]
    assert Dataset.open(storage).manifest.reason == "a test, in part"
    assert list(unlisted(storage)) == []


def test_nothing_sealed_is_no_version(storage: Storage, write: Write) -> None:
    assert write_segments(storage, write, [[], []], "a test", workers=1, engine="inline") == (None, [0, 0])
    with pytest.raises(RuntimeError, match="thirteen"):
        write_segments(storage, write, [[13]], "a test", workers=1, engine="inline")
    assert latest_number(storage) is None
