"""Splines against scipy's, their regression against its normal equations, and curves that join."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from tests.models.codecs.chunks import everything, smooth
from vla.core.errors import ConfigError, ContractError
from vla.models.codecs.codec import ActionCodec
from vla.models.codecs.config import SplineConfig
from vla.models.codecs.spline import spline_basis


def _build(config: SplineConfig) -> ActionCodec:
    return config.build(config.fit(smooth(500)))


@given(h=st.integers(1, 40), degree=st.integers(0, 5), more=st.integers(1, 9))
def test_the_basis_is_scipys(h: int, degree: int, more: int) -> None:
    points = degree + more
    inner = np.linspace(0, 1, points - degree + 1)[1:-1]
    knots = np.concatenate([np.zeros(degree + 1), inner, np.ones(degree + 1)])
    wanted = BSpline.design_matrix(np.linspace(0, 1, h), knots, degree).toarray()
    basis = spline_basis(h, points, degree)
    np.testing.assert_allclose(basis, wanted, atol=1e-9)
    np.testing.assert_allclose(basis.sum(axis=1), 1, atol=1e-9)


def test_control_points_are_the_ridge_regression() -> None:
    """At the least of |B c - x|² + λ|c|² its gradient is 0; a ridge that is forgotten would be seen."""
    codec = SplineConfig(points=4, ridge=0.1)
    chunks = smooth(6, seed=3).double()
    basis = torch.from_numpy(spline_basis(8, 4, 3))
    points = codec.build(codec.fit(smooth(500)))._project @ chunks
    gradient = basis.T @ (basis @ points - chunks) + 0.1 * points
    assert gradient.abs().max() < 1e-9
    assert (basis.T @ (basis @ points - chunks)).abs().max() > 1e-2


@settings(max_examples=20)
@given(points=st.integers(4, 8), seed=st.integers(0, 99))
def test_what_a_spline_can_draw_comes_back(points: int, seed: int) -> None:
    """Cubics are in the span of every cubic spline."""
    random = torch.Generator().manual_seed(seed)
    powers = torch.linspace(-1, 1, 8)[:, None] ** torch.arange(4)  # (h, 4)
    chunks = powers @ (torch.rand(400, 4, 3, generator=random) - 0.5)
    config = SplineConfig(points=points, ridge=1e-9, quantile=0.0)
    codec = config.build(config.fit(chunks))
    ids, _ = codec.encode(chunks, everything(chunks))
    assert codec.length == points * 3
    width = (codec.points.cells.high - codec.points.cells.low).max() / 255
    assert (codec.decode(ids) - chunks).abs().max() <= width / 2 + 1e-4


def test_fewer_points_are_coarser_and_fewer_tokens() -> None:
    rough = smooth(50) + 0.1 * torch.randn(50, 8, 3, generator=torch.Generator().manual_seed(0))
    errors = []
    for points in (4, 6, 8):
        codec = _build(SplineConfig(points=points))
        ids, _ = codec.encode(rough, everything(rough))
        errors.append((codec.decode(ids) - rough).abs().mean().item())
    assert errors[0] > 1.2 * errors[1] > 1.2 * errors[2]


def test_a_continuous_one_begins_at_the_first_action() -> None:
    rough = smooth(50) + 0.1 * torch.randn(50, 8, 3, generator=torch.Generator().manual_seed(0))
    gaps = {}
    for continuous in (True, False):
        config = SplineConfig(points=4, continuous=continuous, bins=4096, quantile=0.0)
        codec = config.build(config.fit(rough))
        ids, _ = codec.encode(rough, everything(rough))
        gaps[continuous] = (codec.decode(ids)[:, 0] - rough[:, 0]).abs().max().item()
    assert gaps[True] < 1e-3 < 0.05 < gaps[False]


def test_json_is_exact() -> None:
    fitted = SplineConfig(continuous=True, points=6).fit(smooth(100))
    assert SplineConfig().build(json.loads(json.dumps(fitted))).to_json() == fitted


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SplineConfig(points=3), r"codec\.points=3 must be at least 4"),
        (lambda: SplineConfig(points=9).fit(smooth(50)), r"codec\.points=9 is more than the 8 steps"),
        (lambda: SplineConfig(ridge=-1.0), r"codec\.ridge=-1\.0"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"degree": 5}, "a spline of degree 5 takes at least 6 points, got 5"),
        ({"points": [1]}, r"'points' and 'continuous' .* got \[1\]"),
        ({"continuous": "no"}, "got .* and 'no'"),
        ({"ridge": None}, "'ridge' .* got None"),
    ],
)
def test_a_damaged_contract_is_refused(damage: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        SplineConfig().build({**SplineConfig().fit(smooth(50)), **damage})
