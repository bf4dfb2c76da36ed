"""From places of the tool to points in the picture of a fixed camera: fitted to pairs, most of which may be wrong.

A pinhole camera maps positions by a 3x4 matrix up to scale, which pairs give by the direct linear transform (Hartley
and Zisserman, Multiple View Geometry, 2nd edition, algorithm 7.1); RANSAC (Fischler and Bolles 1981) finds the pairs
to trust, and Gauss-Newton on the distances in the picture ends it. It begins from an affine camera too, which is the
better start where the tool moves little and hardly any perspective is seen. Where the tool is known as joint angles
alone, the points are a quadratic polynomial of them: no camera, but a map that the same pairs give. Few pairs that lie
in a plane, as where a gripper closes, determine no camera either; they are described by an affine map.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64

_ROUNDS = 200
_REFINEMENTS = 10
_BEHIND = 1e-6

Form = Literal["pinhole", "quadratic", "affine"]


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Maps places (·, k) to points (row, column), -1 to 1 across the picture."""

    matrix: Float64[np.ndarray, "3 f"]
    form: Form
    """A pinhole's matrix is 3x4; the last row of the others says nothing."""
    centre: Float64[np.ndarray, " k"]
    scale: float
    """Places are centred and scaled by these first, or nothing of it is well conditioned."""

    def __call__(self, places: Float[np.ndarray, "m k"]) -> Float64[np.ndarray, "m 2"]:
        """Points; NaN for what is behind the camera."""
        seen = _features(places, self) @ self.matrix.T
        depth = np.where(seen[:, 2:] > _BEHIND, seen[:, 2:], np.nan)
        return np.asarray(seen[:, :2] / depth)

    def moved(self, by: Float[np.ndarray, "2"]) -> "Projection":
        """The same with all points moved in the picture."""
        matrix = self.matrix.copy()
        matrix[:2] += by[:, None] * matrix[2]
        return replace(self, matrix=matrix)


def fit_projection(
    places: Float[np.ndarray, "m k"],
    points: Float[np.ndarray, "m 2"],
    *,
    form: Form,
    tolerance: float,
    rng: np.random.Generator,
) -> tuple[Projection, Bool[np.ndarray, " m"]]:
    """The projection, and which pairs it explains within ``tolerance`` (the picture is 2 across)."""
    centre = places.mean(axis=0)
    scale = float(np.linalg.norm(places - centre, axis=1).mean()) or 1.0
    frame = Projection(matrix=np.zeros((3, 0)), form=form, centre=centre, scale=scale)
    features = _features(places, frame)
    solves = (_pinhole, _polynomial) if form == "pinhole" else (_polynomial,)
    needed = min(features.shape[1] + 4, len(places))
    best = np.zeros(len(places), bool)
    for number in range(_ROUNDS):
        chosen = rng.choice(len(places), needed, replace=False)
        matrix = solves[number % len(solves)](features[chosen], points[chosen])
        explained = _errors(matrix, features, points) < tolerance
        if explained.sum() > best.sum():
            best = explained
    for _ in range(5):  # what a better fit explains makes it better still
        if best.sum() < needed:
            best = np.ones(len(places), bool)
        found = [solve(features[best], points[best]) for solve in solves]
        if form == "pinhole":
            found = [_refined(one, features[best], points[best], tolerance) for one in found]
        losses = [np.minimum(_errors(one, features, points), tolerance).sum() for one in found]
        matrix = found[int(np.argmin(losses))]
        best = _errors(matrix, features, points) < tolerance
    return Projection(matrix=matrix, form=form, centre=centre, scale=scale), best


def _features(places: Float[np.ndarray, "m k"], frame: Projection) -> Float64[np.ndarray, "m f"]:
    """Centred and scaled places with a one behind them; in a quadratic form also all products of two."""
    x = (np.asarray(places, np.float64) - frame.centre) / frame.scale
    columns = [x]
    if frame.form == "quadratic":
        first, second = np.triu_indices(x.shape[1])
        columns.append(x[:, first] * x[:, second])
    return np.concatenate([*columns, np.ones((len(x), 1))], axis=1)


def _pinhole(features: Float64[np.ndarray, "m 4"], points: Float[np.ndarray, "m 2"]) -> Float64[np.ndarray, "3 4"]:
    """Two equations a pair; the solution is the right singular vector of the least singular value.

    It is found as an eigenvector of a 12x12 matrix, so that many pairs cost little; places are centred and scaled.
    """
    zero = np.zeros_like(features)
    rows = np.concatenate([features, zero, -points[:, :1] * features], axis=1)
    columns = np.concatenate([zero, features, -points[:, 1:] * features], axis=1)
    equations = np.concatenate([rows, columns])
    matrix = np.linalg.eigh(equations.T @ equations)[1][:, 0].reshape(3, 4)
    sign = np.sign(np.median(features @ matrix[2])) or 1.0  # what was seen is in front of the camera
    return np.asarray(sign * matrix / (np.linalg.norm(matrix[2]) + 1e-12))


def _polynomial(features: Float64[np.ndarray, "m f"], points: Float[np.ndarray, "m 2"]) -> Float64[np.ndarray, "3 f"]:
    gram = features.T @ features + 1e-6 * len(features) * np.eye(features.shape[1])
    one = np.zeros((1, features.shape[1]))
    one[0, -1] = 1.0
    return np.concatenate([np.linalg.solve(gram, features.T @ points).T, one])


def _errors(
    matrix: Float64[np.ndarray, "3 f"], features: Float64[np.ndarray, "m f"], points: Float[np.ndarray, "m 2"]
) -> Float64[np.ndarray, " m"]:
    """Distances in the picture; infinite behind the camera."""
    seen = features @ matrix.T
    depth = np.where(seen[:, 2:] > _BEHIND, seen[:, 2:], np.nan)
    return np.asarray(np.nan_to_num(np.linalg.norm(seen[:, :2] / depth - points, axis=1), nan=np.inf))


def _refined(
    matrix: Float64[np.ndarray, "3 4"],
    features: Float64[np.ndarray, "m 4"],
    points: Float[np.ndarray, "m 2"],
    width: float,
) -> Float64[np.ndarray, "3 4"]:
    """Gauss-Newton on distances in the picture, those beyond a third of ``width`` weighing less (Huber 1964)."""
    for _ in range(_REFINEMENTS):
        seen = features @ matrix.T
        depth = np.maximum(seen[:, 2:], _BEHIND)
        found = seen[:, :2] / depth
        off = points - found  # (m, 2)
        weight = np.minimum(1.0, width / 3 / np.maximum(np.linalg.norm(off, axis=1), 1e-12))
        scaled, zero = features / depth, np.zeros_like(features)
        jacobian = np.stack(
            [
                np.concatenate([scaled, zero, -found[:, :1] * scaled], axis=1),
                np.concatenate([zero, scaled, -found[:, 1:] * scaled], axis=1),
            ],
            axis=1,
        )  # (m, 2, 12)
        weighted = jacobian * weight[:, None, None]
        gram = np.einsum("mip,miq->pq", weighted, jacobian)
        gram += 1e-7 * np.trace(gram) * np.eye(12)  # the scale of the matrix is free
        step = np.linalg.solve(gram, np.einsum("mip,mi->p", weighted, off))
        matrix = matrix + step.reshape(3, 4)
    return np.asarray(matrix / np.linalg.norm(matrix[2]))
