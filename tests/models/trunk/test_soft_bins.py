"""Numbers as distributions over bins: finer than a cell, never outside the limits, and two modes stay two."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vla.core.errors import ContractError
from vla.models.trunk.soft_bins import SoftBins, soft_cross_entropy

SHAPE = (3, 2)


def _cells(bins: int, seed: int, sigma: float = 1.0) -> SoftBins:
    random = torch.Generator().manual_seed(seed)
    low = torch.rand(SHAPE, generator=random) * 6 - 3
    return SoftBins(low, low + 1e-3 + 4 * torch.rand(SHAPE, generator=random), bins=bins, sigma=sigma)


def _inside(cells: SoftBins, count: int, seed: int) -> Tensor:
    share = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))
    return cells.low + share * (cells.high - cells.low)


def _width(cells: SoftBins) -> Tensor:
    return (cells.high - cells.low) / (cells.bins - 1)


@given(bins=st.integers(2, 300), seed=st.integers(0, 999))
def test_ids_are_within_half_a_cell(bins: int, seed: int) -> None:
    cells = _cells(bins, seed)
    values = _inside(cells, 5, seed)
    ids = cells.ids(values)
    assert ids.min() >= 0
    assert ids.max() < bins
    assert ((cells.values(ids) - values).abs() <= _width(cells) * 0.5 + 1e-5).all()


@given(bins=st.integers(2, 300), seed=st.integers(0, 999))
def test_ids_of_centres_are_exact(bins: int, seed: int) -> None:
    cells = _cells(bins, seed)
    ids = torch.randint(0, bins, (5, *SHAPE), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(cells.ids(cells.values(ids)), ids)


@given(bins=st.integers(2, 64), seed=st.integers(0, 999), scale=st.sampled_from([0.0, 1.0, 100.0, 1e4, 1e30]))
def test_any_logits_decode_inside_the_limits(bins: int, seed: int, scale: float) -> None:
    cells = _cells(bins, seed)
    logits = torch.randn(5, *SHAPE, bins, generator=torch.Generator().manual_seed(seed)) * scale
    values = cells.decode(logits)
    assert (values >= cells.low).all()
    assert (values <= cells.high).all()


@pytest.mark.parametrize("end", [0, -1])
def test_a_sure_end_decodes_to_the_limit(end: int) -> None:
    cells = _cells(16, 0)
    logits = torch.full((1, *SHAPE, 16), -1e4)
    logits[..., end] = 1e4
    torch.testing.assert_close(cells.decode(logits)[0], cells.low if end == 0 else cells.high)


@given(bins=st.integers(2, 300), seed=st.integers(0, 999), sigma=st.floats(0.3, 3))
def test_targets_are_distributions_around_the_value(bins: int, seed: int, sigma: float) -> None:
    cells = _cells(bins, seed, sigma)
    values = _inside(cells, 5, seed)
    targets = cells.targets(values)
    torch.testing.assert_close(targets.sum(dim=-1), torch.ones(5, *SHAPE))
    assert (targets >= 0).all()
    mode = targets.argmax(dim=-1)
    assert ((mode - cells.cells(values)).abs() <= 0.5 + 1e-3).all()


@given(seed=st.integers(0, 999))
def test_targets_decode_finer_than_a_cell(seed: int) -> None:
    cells = _cells(32, seed)
    low, high = cells.low, cells.high
    values = low + (high - low) * (0.15 + 0.7 * (_inside(cells, 5, seed) - low) / (high - low))  # off the border
    error = (cells.decode(cells.targets(values).log()) - values).abs()
    assert (error <= 0.05 * _width(cells) + 1e-5).all()


def test_two_modes_are_not_averaged() -> None:
    cells = SoftBins(torch.zeros(()), torch.ones(()), bins=101)
    both = (0.51 * cells.targets(torch.tensor([0.2])) + 0.49 * cells.targets(torch.tensor([0.8]))).log()
    torch.testing.assert_close(cells.decode(both), torch.tensor([0.2]), atol=0.005, rtol=0)


def test_outside_goes_to_the_border() -> None:
    cells = _cells(16, 0)
    far = torch.full((1, *SHAPE), 1e6)
    assert (cells.ids(far) == 15).all()
    assert (cells.ids(-far) == 0).all()


@pytest.mark.parametrize(
    ("low", "high"),
    [([1.0], [1.0, 1.0]), ([0.0, float("nan")], [1.0, 1.0]), ([0.0, 0.0], [1.0, 0.0]), ([0.0], [float("inf")])],
)
def test_damaged_limits(low: list[float], high: list[float]) -> None:
    with pytest.raises(ContractError, match="finite with low < high; the contract is damaged"):
        SoftBins(torch.tensor(low), torch.tensor(high), bins=4)


def test_limits_follow_the_device_and_are_no_weights() -> None:
    cells = _cells(4, 0)
    assert {name for name, _ in cells.named_buffers()} == {"low", "high"}
    assert not cells.state_dict()
    assert cells.to(torch.device("meta")).low.device.type == "meta"


@given(seed=st.integers(0, 999))
def test_cross_entropy_is_least_at_the_target(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    targets, other = torch.rand(2, 4, 9, generator=random).softmax(dim=-1)
    least = soft_cross_entropy(targets.log(), targets)
    torch.testing.assert_close(least, -(targets * targets.log()).sum(dim=-1))  # the entropy
    assert (soft_cross_entropy(other.log(), targets) >= least - 1e-6).all()
    assert soft_cross_entropy(other.log().bfloat16(), targets).dtype == torch.float32
