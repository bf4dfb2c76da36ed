"""Per-joint bins: a token for each joint of each step, from limits that hold the data."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vla.core.errors import ContractError
from vla.models.codecs.bins import Bins
from vla.models.codecs.config import BinsConfig


def _chunks(seed: int = 0, count: int = 50) -> Tensor:
    return torch.rand(count, 4, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _everything(chunks: Tensor) -> Tensor:
    return torch.ones_like(chunks, dtype=torch.bool)


def _half(codec: Bins) -> Tensor:
    return (codec.cells.high - codec.cells.low) / (codec.cells.bins - 1) / 2


def test_each_joint_of_each_step_has_a_token_step_by_step() -> None:
    codec = Bins.fit(_chunks(), bins=64, quantile=0.0)
    assert (codec.size, codec.length) == (3 * 64, 4 * 3)
    ids, learn = codec.encode(_chunks(seed=1), _everything(_chunks()))
    assert (ids // 64 == torch.arange(3).repeat(4)).all()
    assert learn.all()


def test_what_is_not_valid_is_not_learned() -> None:
    chunks = _chunks()
    valid = _everything(chunks)
    valid[0, 2:], valid[1, :, 0] = False, False
    _, learn = Bins.fit(chunks, bins=64, quantile=0.0).encode(chunks, valid)
    assert torch.equal(learn.view(50, 4, 3), valid)


@given(bins=st.integers(2, 99), seed=st.integers(0, 99))
def test_fitted_limits_hold_the_samples(bins: int, seed: int) -> None:
    chunks = _chunks(seed)
    codec = Bins.fit(chunks, bins=bins, quantile=0.0)
    ids, _ = codec.encode(chunks, _everything(chunks))
    assert ((codec.decode(ids) - chunks).abs() <= _half(codec) + 1e-5).all()


def test_quantiles_leave_out_what_is_rare() -> None:
    chunks = _chunks(count=2000)
    chunks[7] = 600.0
    codec = Bins.fit(chunks, bins=64, quantile=0.001)
    assert codec.cells.high.max() < 1.1
    far, _ = codec.encode(chunks[7:8], _everything(chunks[7:8]))
    torch.testing.assert_close(codec.decode(far)[0], codec.cells.high)


def test_a_joint_that_never_moves_can_be_coded() -> None:
    still = torch.zeros(9, 4, 3)
    codec = Bins.fit(still, bins=63, quantile=0.001)
    torch.testing.assert_close(codec.cells.high - codec.cells.low, torch.full((4, 3), 1e-3))
    ids, _ = codec.encode(still, _everything(still))
    assert codec.decode(ids).abs().max() < 1e-5


@given(bins=st.integers(2, 300), seed=st.integers(0, 99))
def test_json_is_exact(bins: int, seed: int) -> None:
    config = BinsConfig(bins=bins)
    fitted = config.fit(_chunks(seed))
    codec, again = (config.build(value) for value in (fitted, json.loads(json.dumps(fitted))))
    assert isinstance(codec, Bins)
    assert isinstance(again, Bins)
    assert torch.equal(again.cells.low, codec.cells.low)
    assert torch.equal(again.cells.high, codec.cells.high)
    assert again.cells.bins == bins
    assert again.to_json() == fitted


@pytest.mark.parametrize("key", ["low", "high", "bins"])
def test_what_was_fitted_must_be_there(key: str) -> None:
    fitted = BinsConfig().fit(_chunks())
    fitted.pop(key)
    with pytest.raises(ContractError, match=f"lacks '{key}' of what was fitted to the data; it is damaged"):
        BinsConfig().build(fitted)
