"""Spacings: increasing maps that undo themselves, equal shares for quantiles, Gato's numbers for µ-law."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.models.codecs.chunks import everything, smooth
from vla.core.errors import ConfigError, ContractError, UnknownNameError
from vla.models.codecs.bins import Bins
from vla.models.codecs.config import BinsConfig
from vla.models.codecs.spacing import SPACINGS, MuLaw


def _fit(name: str, bins: int = 16, seed: int = 0, quantile: float = 0.0) -> Bins:
    return Bins.fit(smooth(400, seed), bins=bins, quantile=quantile, spacing=name)


@pytest.mark.parametrize("name", SPACINGS)
@given(bins=st.integers(2, 99), seed=st.integers(0, 99))
def test_a_spacing_increases_and_undoes_itself(name: str, bins: int, seed: int) -> None:
    codec = _fit(name, bins, seed)
    chunks = smooth(400, seed).sort(dim=0).values
    warped = codec.spacing.warp(chunks)
    assert (warped.diff(dim=0) >= 0).all()
    torch.testing.assert_close(codec.spacing.unwarp(warped), chunks, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", SPACINGS)
@given(bins=st.integers(2, 99), seed=st.integers(0, 99))
def test_centres_are_their_own_ids(name: str, bins: int, seed: int) -> None:
    codec = _fit(name, bins, seed)
    ids, _ = codec.encode(smooth(5, seed + 1), everything(smooth(5)))
    again, _ = codec.encode(codec.decode(ids), everything(smooth(5)))
    assert torch.equal(ids, again)


def test_cells_between_quantiles_hold_equal_shares() -> None:
    chunks = (4 * smooth(1600)).exp()  # far from uniform
    shares = {}
    for name in ("quantile", "uniform"):
        codec = Bins.fit(chunks, bins=16, quantile=0.0, spacing=name)
        ids, _ = codec.encode(chunks, everything(chunks))
        counts = torch.stack([torch.bincount(column, minlength=16) for column in (ids % 16).T])
        shares[name] = counts.max().item() / 1600
    assert shares["quantile"] == pytest.approx(1 / 16, rel=0.02)
    assert shares["uniform"] > 0.3


def test_edges_are_the_quantiles_of_each_joint_of_each_step() -> None:
    chunks = smooth(400)
    edges = torch.tensor(BinsConfig(bins=4, quantile=0.01, spacing="quantile").fit(chunks)["edges"])
    wanted = np.quantile(chunks.numpy(), [0.01, 0.255, 0.5, 0.745, 0.99], axis=0)
    np.testing.assert_allclose(edges, wanted, atol=1e-4)


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_a_gripper_of_two_values_survives_quantiles(value: float) -> None:
    chunks = smooth(400)
    chunks[:, :, 2] = chunks[:, :, 2].sign()
    codec = Bins.fit(chunks, bins=32, quantile=0.001, spacing="quantile")
    wanted = torch.full((1, 8, 3), value)
    ids, _ = codec.encode(wanted, everything(wanted))
    torch.testing.assert_close(codec.decode(ids)[..., 2], wanted[..., 2], atol=2e-3, rtol=0)


def test_mu_law_is_gatos() -> None:
    values = torch.tensor([0.0, 1.0, -1.0, 256.0, 0.1]).view(1, 1, -1)
    warped = MuLaw().warp(values).flatten()
    torch.testing.assert_close(warped[:4], torch.tensor([0.0, 0.4547, -0.4547, 1.0]), atol=1e-4, rtol=0)
    assert warped[4].item() == pytest.approx(math.log(0.1 * 100 + 1) / math.log(256 * 100 + 1))


def test_mu_law_is_finer_near_zero() -> None:
    errors = {}
    for name in ("uniform", "mu-law"):
        codec = _fit(name, bins=32)
        small = 0.02 * smooth(50, seed=3)
        ids, _ = codec.encode(small, everything(small))
        errors[name] = (codec.decode(ids) - small).abs().mean().item()
    assert errors["mu-law"] < errors["uniform"] / 2


def test_uniform_bins_say_nothing_new() -> None:
    """What older versions wrote is read, and they could read what is written."""
    assert set(BinsConfig().fit(smooth(50))) == {"low", "high", "bins"}


def test_a_spacing_that_is_damaged_or_unknown_is_refused() -> None:
    fitted = BinsConfig(bins=4, spacing="quantile").fit(smooth(50))
    edges = fitted["edges"]
    for damage, message in (
        ({"edges": edges[:3]}, r"'edges' .* shape \(5, 8, 3\), got shape \(3, 8, 3\)"),
        ({"edges": edges[::-1]}, "edges must increase"),
        ({"edges": "what"}, "'edges' .* got what"),
    ):
        with pytest.raises(ContractError, match=message):
            BinsConfig().build({**fitted, **damage})
    with pytest.raises(UnknownNameError, match=r"'mulaw': did you mean 'mu-law'\?"):
        BinsConfig().build({**fitted, "spacing": "mulaw"})
    with pytest.raises(ConfigError, match=r"codec\.quantile=0\.5"):
        BinsConfig(quantile=0.5)
