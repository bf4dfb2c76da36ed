"""The synthetic dataset is a whole one, and each measurement of it has its row."""

from pathlib import Path

import numpy as np
import pytest

from vla.bench.data.index import bench_index, open_dataset, time_info, write_synthetic
from vla.bench.settings import IndexConfig
from vla.datasets.dataset import Dataset


def test_the_synthetic_dataset_has_all_episodes(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", IndexConfig(episodes=25, per_segment=10, steps=5))
    dataset = Dataset.open(tmp_path / "data")
    assert len(dataset.episodes) == 25
    assert len(dataset) == 125
    assert len(dataset.manifest.segments) == 3
    assert len({record.content_hash for record in dataset.episodes}) == 25
    episode = dataset.read_episode(24)
    np.testing.assert_array_equal(episode.state[1:], episode.action[:-1])


def test_opening_takes_time_and_memory(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", IndexConfig(episodes=3, steps=5))
    seconds, megabytes = open_dataset(tmp_path / "data")
    assert 0 < seconds < 10
    assert 0 <= megabytes < 100


def test_all_rows_are_there() -> None:
    notes: list[str] = []
    rows = {row.name: row for row in bench_index(IndexConfig(episodes=30, per_segment=10, steps=5), notes.append)}
    assert rows["write"].value > 0
    assert rows["Dataset.open"].bar == 2.0
    assert rows["memory of the open index"].bar == 50.0
    assert rows["vla data info, the whole process"].bar == 5.0


def test_a_failing_command_is_noted_and_not_timed(tmp_path: Path) -> None:
    notes: list[str] = []
    assert time_info(tmp_path / "nothing", notes.append) == []
    assert "vla data info failed" in notes[0]


@pytest.mark.parametrize("episodes", [1, 10])
def test_segments_may_be_full_or_not(tmp_path: Path, episodes: int) -> None:
    write_synthetic(tmp_path / "data", IndexConfig(episodes=episodes, per_segment=5, steps=2))
    assert len(Dataset.open(tmp_path / "data").episodes) == episodes
