"""The training loader hands over the frames that were written, with workers and without, and ends in peace."""

from pathlib import Path

import numpy as np
import pytest

from vla.bench.data.batches import HISTORY, batches, bench_memory, memory_growth, training_rates
from vla.bench.data.frames import Recorded, record, write_dataset
from vla.bench.settings import LoaderConfig


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return record(32, 40, 0.0, seed=3)


@pytest.fixture(scope="module")
def root(recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "data"
    write_dataset(path, recorded, "zstd")
    return path


def test_batches_hold_the_frames_of_their_steps(root: Path, recorded: Recorded) -> None:
    batch = batches(root, 8, seed=1)[3]
    assert tuple(batch["images"].shape) == (8, HISTORY, 2, 32, 32, 3)
    for slot, camera in enumerate(recorded.cameras):
        frames = np.concatenate([episode.images[camera] for episode in recorded.episodes])
        np.testing.assert_array_equal(batch["images"][:, -1, slot].numpy(), frames[batch["index"].numpy()])


def test_rates_with_a_worker_and_without(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = LoaderConfig(batch=4, training_seconds=0.2)
    for workers in (0, 1):
        wall, cpu = training_rates(root, config, workers)
        assert wall > 0
        assert cpu > 0
    assert capfd.readouterr().err == ""  # a worker that is cut off aborts and says so


def test_memory_is_watched_to_the_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter(range(1000, 2000))
    monkeypatch.setattr("vla.bench.data.batches.resident_bytes", lambda: {"rss": next(seen), "anonymous": 7})
    growth = memory_growth(root, 80, batch=4, seed=0)  # 20 batches, the first not counted
    assert growth == {"RSS": pytest.approx(1018 / 1000 - 1), "RssAnon": 0.0}


def test_memory_has_its_rows() -> None:
    rows = bench_memory(LoaderConfig(frames=10, memory_samples=200), lambda text: None)
    assert [(row.unit, row.bar) for row in rows] == [("%", 10.0)] * 2
    assert all(0 <= row.value < 100 for row in rows)
