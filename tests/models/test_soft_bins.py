"""Codecs: half a cell of error for ids, less for distributions, and never a value outside the limits."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from vla.models.bins import ActionCodec, BinCodec

from vla.core.contract import Contract, Dimension
from vla.core.errors import ContractError

SHAPE = (3, 2)


def _codec(bins: int, seed: int, sigma: float = 1.0) -> BinCodec:
    rng = np.random.default_rng(seed)
    low = rng.uniform(-3, 3, SHAPE).astype(np.float32)
    return BinCodec(low=low, high=low + rng.uniform(1e-3, 4, SHAPE).astype(np.float32), bins=bins, sigma=sigma)


def _inside(codec: BinCodec, count: int, seed: int) -> Tensor:
    share = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))
    return torch.from_numpy(codec.low) + share * torch.from_numpy(codec.high - codec.low)


def _cell(codec: BinCodec) -> Tensor:
    return torch.from_numpy(codec.high - codec.low) / (codec.bins - 1)


@given(bins=st.integers(2, 300), seed=st.integers(0, 999))
def test_ids_are_within_half_a_cell(bins: int, seed: int) -> None:
    codec = _codec(bins, seed)
    values = _inside(codec, 5, seed)
    ids = codec.ids(values)
    assert ids.min() >= 0
    assert ids.max() < bins
    assert ((codec.values(ids) - values).abs() <= _cell(codec) * 0.5 + 1e-5).all()


@given(bins=st.integers(2, 300), seed=st.integers(0, 999))
def test_ids_of_centres_are_exact(bins: int, seed: int) -> None:
    codec = _codec(bins, seed)
    ids = torch.randint(0, bins, (5, *SHAPE), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(codec.ids(codec.values(ids)), ids)


@given(bins=st.integers(2, 64), seed=st.integers(0, 999), scale=st.sampled_from([0.0, 1.0, 100.0, 1e4, 1e30]))
def test_any_logits_decode_inside_the_limits(bins: int, seed: int, scale: float) -> None:
    codec = _codec(bins, seed)
    logits = torch.randn(5, *SHAPE, bins, generator=torch.Generator().manual_seed(seed)) * scale
    values = codec.decode(logits)
    assert (values >= torch.from_numpy(codec.low)).all()
    assert (values <= torch.from_numpy(codec.high)).all()


@pytest.mark.parametrize("end", [0, -1])
def test_a_sure_end_decodes_to_the_limit(end: int) -> None:
    codec = _codec(16, 0)
    logits = torch.full((1, *SHAPE, 16), -1e4)
    logits[..., end] = 1e4
    expected = torch.from_numpy(codec.low if end == 0 else codec.high)
    torch.testing.assert_close(codec.decode(logits)[0], expected)


@given(bins=st.integers(2, 300), seed=st.integers(0, 999), sigma=st.floats(0.3, 3))
def test_targets_are_distributions_around_the_value(bins: int, seed: int, sigma: float) -> None:
    codec = _codec(bins, seed, sigma)
    values = _inside(codec, 5, seed)
    targets = codec.targets(values)
    torch.testing.assert_close(targets.sum(dim=-1), torch.ones(5, *SHAPE))
    assert (targets >= 0).all()
    mode = targets.argmax(dim=-1)
    assert ((mode - codec.cells(values)).abs() <= 0.5 + 1e-3).all()


@given(seed=st.integers(0, 999))
def test_targets_decode_finer_than_a_cell(seed: int) -> None:
    codec = _codec(32, seed)
    low, high = torch.from_numpy(codec.low), torch.from_numpy(codec.high)
    values = low + (high - low) * (0.15 + 0.7 * (_inside(codec, 5, seed) - low) / (high - low))  # off the border
    error = (codec.decode(codec.targets(values).log()) - values).abs()
    assert (error <= 0.05 * _cell(codec) + 1e-5).all()


def test_two_modes_are_not_averaged() -> None:
    codec = BinCodec(low=np.zeros((), np.float32), high=np.ones((), np.float32), bins=101)
    both = (0.51 * codec.targets(torch.tensor([0.2])) + 0.49 * codec.targets(torch.tensor([0.8]))).log()
    torch.testing.assert_close(codec.decode(both), torch.tensor([0.2]), atol=0.005, rtol=0)


def test_outside_goes_to_the_border() -> None:
    codec = _codec(16, 0)
    far = torch.full((1, *SHAPE), 1e6)
    assert (codec.ids(far) == 15).all()
    assert (codec.ids(-far) == 0).all()


@given(bins=st.integers(2, 300), seed=st.integers(0, 999), sigma=st.floats(0.1, 5))
def test_json_is_exact(bins: int, seed: int, sigma: float) -> None:
    codec = _codec(bins, seed, sigma)
    again = BinCodec.from_json(json.loads(json.dumps(codec.to_json())))
    np.testing.assert_array_equal(again.low, codec.low)
    np.testing.assert_array_equal(again.high, codec.high)
    assert (again.bins, again.sigma) == (codec.bins, codec.sigma)
    assert again.low.dtype == np.float32


@pytest.mark.parametrize("change", [{"low": [1.0]}, {"low": [0.0, float("nan")]}, {"high": [0.0, 1.0]}])
def test_damaged_limits(change: dict[str, list[float]]) -> None:
    value = {"low": [0.0, 0.0], "high": [1.0, 1.0], "bins": 4, "sigma": 1.0} | change
    with pytest.raises(ContractError, match="damaged"):
        BinCodec.from_json(value)


def _contract() -> Contract:
    def joint(name: str, unit: str = "rad") -> Dimension:
        return Dimension(name=name, unit=unit, low=-3.0, high=3.0)

    return Contract(
        robot="arm",
        cameras=(),
        state=(joint("b"), joint("a"), joint("gripper", "m")),
        action=(joint("a"), joint("gripper", "m"), joint("c")),
        control_hz=10.0,
    )


def _fitted(seed: int = 0) -> tuple[ActionCodec, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    state = rng.uniform(-1, 1, (50, 3)).astype(np.float32)
    actions = rng.uniform(-1, 1, (50, 4, 3)).astype(np.float32)
    return ActionCodec.fit(_contract(), state, actions, bins=64, sigma=1.0), state, actions


def test_angles_are_relative_to_the_state_of_the_same_name_and_nothing_else_is() -> None:
    codec, state, actions = _fitted()
    assert codec.relative_to == (1, None, None)
    assert codec.horizon == 4
    expected = actions.copy()
    expected[..., 0] -= state[:, None, 1]
    offsets = codec.offsets(torch.from_numpy(state), torch.from_numpy(actions))
    np.testing.assert_allclose(offsets.numpy(), expected, atol=1e-6)


@given(seed=st.integers(0, 99))
def test_actions_undo_offsets(seed: int) -> None:
    codec, *arrays = _fitted(seed)
    state, actions = map(torch.from_numpy, arrays)
    torch.testing.assert_close(codec.actions(state, codec.offsets(state, actions)), actions)


def test_fitted_limits_hold_the_samples() -> None:
    codec, *arrays = _fitted()
    state, actions = map(torch.from_numpy, arrays)
    offsets = codec.offsets(state, actions)
    decoded = codec.codec.values(codec.codec.ids(offsets))
    half = torch.from_numpy(codec.codec.high - codec.codec.low) / 63 / 2
    assert ((decoded - offsets).abs() <= half + 1e-5).all()


def test_a_joint_that_never_moves_can_be_coded() -> None:
    actions = np.zeros((9, 4, 3), np.float32)
    codec = ActionCodec.fit(_contract(), np.zeros((9, 3), np.float32), actions, bins=64, sigma=1.0)
    np.testing.assert_allclose(codec.codec.high - codec.codec.low, 1e-3, rtol=1e-5)
    decoded = codec.codec.decode(codec.codec.targets(torch.from_numpy(actions)).log())
    assert decoded.abs().max() < 1e-5


def test_action_codec_json_is_exact() -> None:
    codec, *_ = _fitted()
    again = ActionCodec.from_json(json.loads(json.dumps(codec.to_json())))
    assert again.relative_to == codec.relative_to
    assert again.to_json() == codec.to_json()
