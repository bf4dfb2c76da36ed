"""Lists find what comparing all rows finds, also under a filter, and hold to it; on pictures of a real dataset."""

from pathlib import Path

import numpy as np
import pytest

from tests.search.colours import ColourEmbedder
from vla.bench.search.pictures import some_crops, some_vectors
from vla.datasets.dataset import Dataset
from vla.search import neighbours
from vla.search.neighbours import NEAREST, Neighbours, exact, make_neighbours, recall


@pytest.fixture(scope="module")
def rows(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    opened = Dataset.open(dataset)
    return some_vectors(opened, ColourEmbedder(), 4000, tmp_path_factory.mktemp("rows"), 0, lambda text: None)


@pytest.fixture(scope="module")
def queries(dataset: Path) -> np.ndarray:
    return some_crops(Dataset.open(dataset), ColourEmbedder(), 60, 0)


@pytest.fixture
def made(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Neighbours:
    monkeypatch.setattr(neighbours, "FLAT_MOST", 1000)
    return make_neighbours(rows, rows.shape[1])


def test_comparing_all_is_right(rows: np.ndarray, queries: np.ndarray) -> None:
    every = np.asarray(rows, np.float32)
    scores, numbers = exact(rows, queries, 7)
    whole = queries @ every.T
    np.testing.assert_allclose(scores, np.sort(whole, axis=1)[:, ::-1][:, :7], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(whole, numbers, axis=1), scores, atol=1e-6)
    assert exact(rows[:3], queries, 7)[0].shape == (60, 3)


def test_lists_find_what_is_there_and_reading_fewer_does_not(
    made: Neighbours, rows: np.ndarray, queries: np.ndarray
) -> None:
    best = exact(rows, queries, NEAREST)[0][:, -1]
    assert 0 < made.probes < made.index.nlist
    assert recall(made, queries, best) >= 0.95
    made.probes = 1
    assert recall(made, queries, best) < 0.9


@pytest.mark.parametrize("share", [0.5, 0.05, 0.002])
def test_a_filter_is_held_to_and_costs_no_recall(
    made: Neighbours, rows: np.ndarray, queries: np.ndarray, share: float
) -> None:
    allowed = np.random.default_rng(1).random(len(rows)) < share
    count = min(NEAREST, int(allowed.sum()))
    best = exact(rows[allowed], queries, count)[0]
    found = [made.nearest(query, count, allowed) for query in queries]
    assert all(allowed[numbers].all() and len(numbers) == count for _, numbers in found)
    hits = [(scores >= low - neighbours.TIE).mean() for (scores, _), low in zip(found, best[:, -1], strict=True)]
    assert np.mean(hits) >= 0.95


def test_without_more_lists_a_filter_would_cost_recall(
    made: Neighbours, rows: np.ndarray, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = np.random.default_rng(1).random(len(rows)) < 0.3
    grown = lambda self, probes, left: probes if left != len(self) // 4 else self.index.nlist  # noqa: E731
    monkeypatch.setattr(Neighbours, "_more", grown)
    best = exact(rows[allowed], queries, NEAREST)[0][:, -1]
    found = [made.nearest(query, NEAREST, allowed)[0] for query in queries]
    hits = [(scores >= low - neighbours.TIE).sum() / NEAREST for scores, low in zip(found, best, strict=True)]
    assert np.mean(hits) < 0.95


def test_rows_that_are_added_are_found(made: Neighbours, rows: np.ndarray, queries: np.ndarray) -> None:
    made.add(queries[:5].astype(np.float16))
    for number, query in enumerate(queries[:5]):
        scores, numbers = made.nearest(query, 1)
        assert scores[0] == pytest.approx(1, abs=2e-3)
        assert numbers[0] == len(rows) + number or scores[0] >= 1 - 2e-3


def test_words_are_looked_for_as_far_as_pictures(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their vectors lie apart from all of pictures: how far to look is measured with some of them."""
    monkeypatch.setattr(neighbours, "FLAT_MOST", 1000)
    said = ColourEmbedder().texts(["red", "green", "red and blue", "yellow and red", "green and blue and red"])
    alone, told = make_neighbours(rows, rows.shape[1]), make_neighbours(rows, rows.shape[1], said)
    best = exact(rows, said, NEAREST)[0][:, -1]
    assert told.probes >= alone.probes
    assert recall(told, said, best) >= 0.95
