"""The bench measures real pictures by any model, keeps their vectors, and its rows say what they claim."""

from pathlib import Path

import numpy as np
import pytest

from tests.search.colours import ColourEmbedder
from vla.bench.search import bench
from vla.bench.search.bench import bench_search, bench_with
from vla.bench.search.pictures import some_crops, some_vectors
from vla.bench.search.settings import SearchConfig
from vla.core.errors import ConfigError
from vla.datasets.dataset import Dataset
from vla.search import neighbours


def test_vectors_are_of_frames_first_then_of_crops_and_are_kept(dataset: Path, tmp_path: Path) -> None:
    opened, embedder = Dataset.open(dataset), ColourEmbedder()
    frames = 2 * len(opened)
    notes: list[str] = []
    vectors = some_vectors(opened, embedder, frames + 500, tmp_path, 0, notes.append)
    assert vectors.shape == (frames + 500, embedder.width)
    for camera, number in (("front", 7), ("wrist", len(opened) + 11)):
        frame = opened.frame(camera, number % len(opened))
        np.testing.assert_allclose(vectors[number], embedder.images(frame[None])[0], atol=1e-3)
    crops = np.asarray(vectors[frames:], np.float32)
    assert len(np.unique(crops.round(3), axis=0)) > 480
    done = embedder.pictures
    again = some_vectors(opened, embedder, frames + 500, tmp_path, 0, notes.append)
    assert embedder.pictures == done
    assert notes == ["embedding 2,000 pictures"]
    np.testing.assert_array_equal(again, vectors)
    others = some_crops(opened, embedder, 50, 0)
    assert np.median((others @ crops.T).max(axis=1)) < 1 - 1e-4  # what is asked for is none of what is there


def test_rows_say_what_is_missed_and_how_long_it_takes(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "FLAT_MOST", 1500)
    config = SearchConfig(dataset=str(dataset), sizes=(1000, 2000), queries=40, out=str(tmp_path))
    rows = {row.name: row for row in bench_with(config, ColourEmbedder(), lambda text: None)}
    assert rows["1,000, pictures: missed of the 10 nearest"].value == 0  # all are compared
    listed = next(name for name in rows if name.startswith("2,000 ("))
    assert "lists" in listed
    for kind in ("pictures", "words"):
        missed, p99 = rows[f"2,000, {kind}: missed of the 10 nearest"], rows[f"2,000, {kind}: p99"]
        assert 0 <= missed.value <= 100
        assert missed.bar == 5.0
        assert p99.bar == 2.0
        assert p99.value >= rows[f"2,000, {kind}: p50"].value > 0
    assert rows["2,000: added to it"].unit == "vectors/s"


def test_lists_that_are_not_read_are_seen_to_be_missed(dataset: Path, tmp_path: Path) -> None:
    """Which the bench would not say if it asked another question than which are nearest."""
    opened, embedder = Dataset.open(dataset), ColourEmbedder()
    vectors = np.asarray(some_vectors(opened, embedder, 2000, tmp_path, 0, lambda text: None), np.float32)
    queries = some_crops(opened, embedder, 60, 0)
    best = neighbours.exact(vectors, queries, neighbours.NEAREST)[0][:, -1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "FLAT_MOST", 500)
        made = neighbours.make_neighbours(vectors, embedder.width, None)
    assert neighbours.recall(made, queries, best) >= 0.95
    made.probes = 1
    assert neighbours.recall(made, queries, best) < 0.9


def test_it_wants_a_dataset_and_a_checkpoint() -> None:
    with pytest.raises(ConfigError, match="--checkpoint"):
        bench_search(SearchConfig(), lambda text: None)
    with pytest.raises(ConfigError, match="at least 1000"):
        SearchConfig(sizes=(10,))
    assert bench.MOST_MS == 2.0
