"""Projections: a known camera is found again from pairs of which a third is wrong."""

import numpy as np
import pytest

from vla.collection.labels.projection import fit_projection


def _camera() -> np.ndarray:
    """A pinhole at (1, 0, 0.6) m that looks at (0.5, 0, 0), up to scale; columns grow to the right of its picture."""
    place, forward = np.array([1.0, 0.0, 0.6]), np.array([-0.5, 0.0, -0.6])
    forward /= np.linalg.norm(forward)
    right = np.array([0.0, 1.0, 0.0])
    axes = np.stack([np.cross(right, forward), right, forward])
    axes[0] *= -np.sign(axes[0, 2])  # rows grow downwards
    rows = np.array([[3.2], [3.2], [1.0]]) * axes
    return np.concatenate([rows, -rows @ place[:, None]], axis=1)


def _seen(matrix: np.ndarray, places: np.ndarray) -> np.ndarray:
    seen = np.concatenate([places, np.ones((len(places), 1))], axis=1) @ matrix.T
    return np.asarray(seen[:, :2] / seen[:, 2:])


@pytest.mark.parametrize("wrong", [0.0, 0.35])
def test_a_camera_is_found_again(wrong: float) -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform((0.35, -0.2, 0.0), (0.65, 0.2, 0.3), (300, 3))
    truth = _seen(_camera(), places)
    points = truth + rng.normal(0.0, 0.01, truth.shape)
    outliers = rng.random(len(points)) < wrong
    points[outliers] = rng.uniform(-1, 1, (int(outliers.sum()), 2))
    projection, explained = fit_projection(places, points, form="pinhole", tolerance=0.06, rng=rng)
    new = rng.uniform((0.35, -0.2, 0.0), (0.65, 0.2, 0.3), (50, 3))
    assert np.linalg.norm(projection(new) - _seen(_camera(), new), axis=1).max() < 0.01
    assert explained[~outliers].mean() > 0.99
    assert explained[outliers].sum() <= 0.1 * outliers.sum()


def test_what_is_behind_the_camera_is_nowhere() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform((0.35, -0.2, 0.0), (0.65, 0.2, 0.3), (100, 3))
    projection, _ = fit_projection(places, _seen(_camera(), places), form="pinhole", tolerance=0.06, rng=rng)
    assert np.isnan(projection(np.array([[1.6, 0.0, 1.2]]))).all()
    assert np.isfinite(projection(np.array([[0.5, 0.0, 0.1]]))).all()


def test_points_follow_joints_where_no_position_is_known() -> None:
    """A planar arm of two links, seen from above: the points are no linear map of its angles."""
    rng = np.random.default_rng(1)
    angles = rng.uniform((-0.5, 0.3), (0.5, 1.2), (400, 2))

    def tip(q: np.ndarray) -> np.ndarray:
        both = q.sum(axis=1)
        return np.stack([np.cos(q[:, 0]) + np.cos(both), np.sin(q[:, 0]) + np.sin(both)], axis=1) - [1.2, 0.6]

    points = tip(angles) + rng.normal(0.0, 0.01, (400, 2))
    points[:100] = rng.uniform(-1, 1, (100, 2))
    projection, _ = fit_projection(angles, points, form="quadratic", tolerance=0.06, rng=rng)
    new = rng.uniform((-0.4, 0.4), (0.4, 1.1), (50, 2))
    error = np.linalg.norm(projection(new) - tip(new), axis=1)
    assert np.median(error) < 0.02
    straight = np.linalg.lstsq(np.c_[angles[100:], np.ones(300)], points[100:], rcond=None)[0]
    assert np.median(np.linalg.norm(np.c_[new, np.ones(50)] @ straight - tip(new), axis=1)) > 2 * np.median(error)
