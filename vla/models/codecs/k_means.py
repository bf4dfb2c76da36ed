"""K-means: points drawn far from each other, then Lloyd's rounds; the same points and seed give the same centroids."""

import numpy as np
from jaxtyping import Float, Float32, Int64

ROUNDS = 15
"""How often centroids are moved."""
_AT_ONCE = 8192
"""Points whose distances to all centroids are in memory together."""


def k_means(
    points: Float32[np.ndarray, "w n"],
    count: int,
    rng: np.random.Generator,
    weights: Float[np.ndarray, " w"] | None = None,
) -> Float32[np.ndarray, "c n"]:
    """``count`` centroids by Lloyd's rounds; a centroid that loses all its points moves to one of the worst served.

    ``weights`` say how much each point counts; by default all count alike. None of them may be 0.
    """
    weights = np.ones(len(points), np.float32) if weights is None else weights.astype(np.float32)
    centroids = _beginnings(points, weights, count, rng)
    for _ in range(ROUNDS):
        owner = nearest(points, centroids)
        sizes = np.bincount(owner, weights, minlength=count)
        members = np.bincount(owner, minlength=count)
        served = members > 0
        starts = (np.cumsum(members) - members)[served]
        order = np.argsort(owner, kind="stable")
        sums = np.add.reduceat(points[order] * weights[order, None], starts, axis=0)
        centroids[served] = sums / sizes[served, None]
        error = weights * np.square(points - centroids[owner]).sum(axis=1)
        worst = np.argsort(-error, kind="stable")[: int((~served).sum())]
        centroids[~served] = points[worst]
    return centroids


def nearest(points: Float32[np.ndarray, "w n"], centroids: Float32[np.ndarray, "c n"]) -> Int64[np.ndarray, " w"]:
    """Which centroid is nearest to each point; of several the first."""
    lengths = np.square(centroids).sum(axis=1)
    found = np.empty(len(points), np.int64)
    for start in range(0, len(points), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        # |x - c|² without the |x|², which is the same for all.
        found[rows] = (lengths - 2 * points[rows] @ centroids.T).argmin(axis=1)
    return found


def _beginnings(
    points: Float32[np.ndarray, "w n"], weights: Float32[np.ndarray, " w"], count: int, rng: np.random.Generator
) -> Float32[np.ndarray, "c n"]:
    """Points drawn by their squared distance to those before them (k-means++), so that all clusters are met."""
    chosen = [int(rng.integers(len(points)))]
    squares = np.square(points).sum(axis=1)
    distance = np.full(len(points), np.inf)
    while len(chosen) < count:
        last = chosen[-1]
        distance = np.minimum(distance, np.maximum(squares - 2 * points @ points[last] + squares[last], 0.0))
        distance[last] = 0.0  # and not what rounding leaves of it
        reached = np.cumsum(distance * weights)
        # Where all points are chosen already, the first stands in.
        chosen.append(int(np.searchsorted(reached, rng.random() * reached[-1], side="right")) % len(points))
    found: np.ndarray = points[chosen].copy()
    return found
