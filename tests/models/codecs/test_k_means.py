"""K-means: exact where the answer is known, repeatable, and led by weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.models.codecs.k_means import k_means, nearest


def _points(count: int, width: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


@given(st.integers(1, 9), st.integers(1, 7), st.integers(0, 5))
def test_nearest_is_what_a_plain_search_finds(count: int, centres: int, seed: int) -> None:
    points, centroids = _points(count, seed=seed), _points(centres, seed=seed + 100)
    distance = np.square(points[:, None] - centroids).sum(axis=-1)
    assert (nearest(points, centroids) == distance.argmin(axis=1)).all()


def test_nearest_of_many_is_that_of_few() -> None:
    """Points are looked at in parts."""
    points, centroids = _points(20_000), _points(5, seed=1)
    assert (
        nearest(points, centroids)[[0, 8191, 8192, 19_999]] == nearest(points[[0, 8191, 8192, 19_999]], centroids)
    ).all()


def test_a_single_centroid_is_the_weighted_mean() -> None:
    points = _points(50)
    weights = np.random.default_rng(1).random(50) + 0.1
    (found,) = k_means(points, 1, np.random.default_rng(0), weights)
    np.testing.assert_allclose(found, np.average(points, axis=0, weights=weights), atol=1e-5)


def test_weights_are_as_good_as_points_that_stand_twice() -> None:
    """Groups far apart, each around a centre: what weighs three is what stands there three times."""
    centres = 100 * np.eye(4, dtype=np.float32)
    points = np.concatenate([centre + 0.1 * _points(6, 4, seed=i) for i, centre in enumerate(centres)])
    times = np.random.default_rng(2).integers(1, 4, len(points))
    by_weight = k_means(points, 4, np.random.default_rng(0), times.astype(np.float32))
    by_count = k_means(np.repeat(points, times, axis=0), 4, np.random.default_rng(0))
    np.testing.assert_allclose(by_weight[np.argsort(by_weight[:, 0])], by_count[np.argsort(by_count[:, 0])], atol=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_group_is_found(seed: int) -> None:
    points = np.repeat(10 * np.eye(24, dtype=np.float32), 20, axis=0)
    found = k_means(points, 24, np.random.default_rng(seed))
    assert np.square(points - found[nearest(points, found)]).max() == 0.0


def test_more_centroids_than_points_are_points() -> None:
    points = _points(3)
    found = k_means(points, 5, np.random.default_rng(0))
    assert {tuple(row) for row in found} == {tuple(row) for row in points}


def test_the_generator_decides() -> None:
    one, same, other = (k_means(_points(300), 9, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
