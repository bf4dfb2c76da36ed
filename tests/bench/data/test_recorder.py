"""What is measured is a real recording: all steps are there afterwards."""

from pathlib import Path

import numpy as np

from vla.bench.data.frames import record
from vla.bench.data.recorder import bench_recorder, record_latencies
from vla.bench.settings import RecorderConfig
from vla.datasets.dataset import Dataset, create_dataset

CONFIG = RecorderConfig(size=32, hz=200.0, seconds=0.3)


def test_every_step_is_recorded_and_timed(tmp_path: Path) -> None:
    recorded = record(32, 10, 0.0, seed=0)
    create_dataset(tmp_path / "data", recorded.contract)
    taken, finish = record_latencies(tmp_path / "data", recorded, CONFIG)
    assert taken.shape == (60,)
    assert (taken > 0).all()
    assert finish > 0
    dataset = Dataset.open(tmp_path / "data")
    assert len(dataset) == 60
    np.testing.assert_array_equal(dataset.frame("front", 0), recorded.episodes[0].images["front"][0])
    np.testing.assert_array_equal(np.diff(dataset.time_ns), 5_000_000)


def test_rows_rise_from_median_to_worst() -> None:
    rows = bench_recorder(CONFIG, lambda text: None)
    assert [row.unit for row in rows] == ["ms"] * 4
    assert rows[0].value <= rows[1].value <= rows[2].value
