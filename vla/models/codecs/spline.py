"""B-splines: a few control points for each dimension instead of all its steps (BEAST, arXiv 2506.06072).

Nothing is trained: the control points of a chunk are a ridge regression, one matrix for all chunks, and each is a bin.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from vla.core.errors import ConfigError, ContractError
from vla.models.codecs.bins import Bins
from vla.models.codecs.codec import ActionCodec, as_one, held, require_chunks
from vla.models.codecs.fitted import MOST_STEPS, fitted_number, fitted_value, fitted_whole, fitting_chunks


class Spline(ActionCodec):
    """Control points (k, d) of a clamped spline, as per-joint bins: point by point, joint by joint."""

    _curve: Tensor
    _project: Tensor

    def __init__(self, points: Bins, *, horizon: int, degree: int, ridge: float, continuous: bool) -> None:
        super().__init__()
        self.points = points
        self._fitted = {"horizon": horizon, "degree": degree, "ridge": ridge, "continuous": continuous}
        count, dims = points.cells.low.shape
        if not degree < count:
            raise ContractError(f"codec: a spline of degree {degree} takes at least {degree + 1} points, got {count}")
        self._shape = horizon, dims
        self.size, self.length = points.size, points.length
        curve = spline_basis(horizon, count, degree)
        for name, matrix in (("_curve", curve), ("_project", _regression(curve, ridge, continuous))):
            self.register_buffer(name, torch.from_numpy(matrix), persistent=False)

    @staticmethod
    def fit(
        chunks: Float[Tensor, "w h d"],
        *,
        points: int,
        degree: int,
        ridge: float,
        continuous: bool,
        bins: int,
        quantile: float,
    ) -> "Spline":
        """The limits of the control points of the data."""
        values = fitting_chunks(chunks)
        h = values.shape[1]
        if points > h:
            raise ConfigError(f"codec.points={points} is more than the {h} steps of a chunk; use bins, or fewer points")
        project = _regression(spline_basis(h, points, degree), ridge, continuous)
        found = torch.from_numpy(np.einsum("kh,whd->wkd", project, values))
        bins_of_points = Bins.fit(found, bins=bins, quantile=quantile)
        return Spline(bins_of_points, horizon=h, degree=degree, ridge=ridge, continuous=continuous)

    def encode(
        self, chunk: Float[Tensor, "b h d"], valid: Bool[Tensor, "b h d"]
    ) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """The bin of each control point."""
        require_chunks(chunk, self._shape)
        found = self._project @ held(chunk, valid).double()
        ids, _ = self.points.encode(found.float(), torch.ones_like(found, dtype=torch.bool))
        return ids, as_one(valid, self.length)

    def decode(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b h d"]:
        """The curve of the control points, at each step."""
        return (self._curve @ self.points.decode(ids).double()).float()

    def allowed(self, before: Int64[Tensor, "b i"]) -> Bool[Tensor, "b v"]:
        """The bins of the point and joint that is due."""
        return self.points.allowed(before)

    def grammar(self, ids: Int64[Tensor, "b l"]) -> Bool[Tensor, "b l v"]:
        """See `ActionCodec.grammar`."""
        return self.points.grammar(ids)

    def to_json(self) -> dict[str, Any]:
        """See `ActionCodec.to_json`."""
        return {**self._fitted, "points": self.points.to_json()}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Spline":
        """Read what `to_json` wrote."""
        points, continuous = fitted_value(value, "points"), fitted_value(value, "continuous")
        if not isinstance(points, Mapping) or not isinstance(continuous, bool):
            raise ContractError(
                "codec: 'points' and 'continuous' in the contract: expected bins, and true or false, got "
                f"{str(points)[:40]} and {continuous!r:.40}; it is damaged"
            )
        return Spline(
            Bins.from_json(points),
            horizon=fitted_whole(value, "horizon", least=1, most=MOST_STEPS),
            degree=fitted_whole(value, "degree", least=0, most=20),
            ridge=fitted_number(value, "ridge", least=0.0, most=1e6),
            continuous=continuous,
        )


def spline_basis(h: int, points: int, degree: int) -> Float64[np.ndarray, "h k"]:
    """What each control point contributes to each step: the clamped basis at evenly spaced places (Cox, de Boor).

    The ends are knots as often as the degree plus one, so the curve begins at the first control point and ends at the
    last one; the knots between are evenly spaced.
    """
    inner = np.linspace(0, 1, points - degree + 1)
    knots = np.concatenate([np.zeros(degree), inner, np.ones(degree)])
    place = np.linspace(0, 1, h)[:, None]
    # Spans are half open; the last place belongs to the last span that has a width.
    span = np.clip(np.searchsorted(knots, place[:, 0], side="right") - 1, degree, points - 1)
    basis: np.ndarray = (np.arange(len(knots) - 1) == span[:, None]).astype(np.float64)
    for order in range(1, degree + 1):
        rising = _ramp(place - knots[: -order - 1], knots[order:-1] - knots[: -order - 1])
        falling = _ramp(knots[order + 1 :] - place, knots[order + 1 :] - knots[1:-order])
        basis = rising * basis[:, :-1] + falling * basis[:, 1:]
    return basis


def _ramp(distance: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Where knots coincide there is no ramp: 0 of 0 is 0."""
    ramp: np.ndarray = np.divide(distance, width, out=np.zeros_like(distance), where=width > 0)
    return ramp


def _regression(curve: Float64[np.ndarray, "h k"], ridge: float, continuous: bool) -> Float64[np.ndarray, "k h"]:
    """The matrix that makes control points of a chunk: least squares plus ``ridge`` times their size.

    With ``continuous`` the first point is the first action itself, and the others are fitted to what it leaves.
    """
    h = len(curve)
    first, left, rest = np.zeros((0, h)), np.eye(h), curve
    if continuous:
        first = np.eye(1, h)
        left, rest = left - curve[:, :1] @ first, curve[:, 1:]  # what the first point leaves of each step
    others = np.linalg.solve(rest.T @ rest + ridge * np.eye(rest.shape[1]), rest.T @ left)
    matrix: np.ndarray = np.concatenate([first, others])
    return matrix
