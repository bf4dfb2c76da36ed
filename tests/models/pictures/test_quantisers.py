"""Quantisers: ids and vectors are one another's inverse, gradients go straight through, and no code stays dead."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vla.core.errors import ConfigError
from vla.models.pictures.config import FsqConfig, NearestConfig
from vla.models.pictures.quantisers import FiniteScalars, NearestVectors, Quantiser


def _vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.lists(st.integers(2, 9), min_size=1, max_size=4))
def test_every_id_of_scalars_is_spelled_by_other_digits_and_read_back(levels: list[int]) -> None:
    quantiser = FsqConfig(levels=tuple(levels)).build()
    ids = torch.arange(quantiser.size)[None]
    vectors = quantiser.vectors(ids)
    assert len({tuple(row) for row in vectors[0].tolist()}) == quantiser.size == math.prod(levels)
    assert vectors.abs().max() <= 1.0
    # The middle of a level, as an encoder would have to say it.
    digits = vectors * (torch.tensor(levels) // 2)
    half = (torch.tensor(levels) - 1) * 1.001 / 2
    offset = 0.5 * (torch.tensor(levels) % 2 == 0)
    z = ((digits + offset) / half).clamp(-1 + 1e-6, 1 - 1e-6).atanh() - (offset / half).atanh()
    assert torch.equal(quantiser.ids(z), ids)


@given(st.floats(-50, 50, width=32), st.sampled_from([(2,), (5,), (8,)]))
def test_scalars_are_bounded_whatever_is_said(value: float, levels: tuple[int, ...]) -> None:
    quantiser = FiniteScalars(levels)
    assert 0 <= int(quantiser.ids(torch.full((1, 1, 1), value))) < levels[0]


def test_scalars_in_the_middle_and_at_the_ends() -> None:
    """Of five levels the third is at 0, as arXiv 2309.15505 has it; of eight the ends are reached."""
    assert FiniteScalars((5,)).ids(torch.tensor([[[-9.0], [0.0], [9.0]]])).tolist() == [[0, 2, 4]]
    assert FiniteScalars((8,)).ids(torch.tensor([[[-9.0], [0.0], [9.0]]])).tolist() == [[0, 4, 7]]


@pytest.mark.parametrize(
    "config",
    [
        FsqConfig(levels=(5, 4)),
        NearestConfig(codes=12, width=2),
        NearestConfig(codes=12, width=2, codebook="gradient", unit=True),
    ],
)
def test_what_is_learned_of_is_what_is_decoded_and_gradients_go_straight_through(config: FsqConfig) -> None:
    torch.manual_seed(0)
    quantiser = config.build()
    quantiser.learn(_vectors(3, 20, 2))  # codes begin at what there is
    z = _vectors(2, 5, 2, seed=1).requires_grad_()
    expected = quantiser.vectors(quantiser.ids(z.detach()))
    given_, loss = quantiser.learn(z)
    torch.testing.assert_close(given_, expected)
    pull = _vectors(2, 5, 2, seed=2)
    (gradient,) = torch.autograd.grad((given_ * pull).sum(), z)
    if isinstance(quantiser, NearestVectors):
        torch.testing.assert_close(gradient, pull)
    else:  # through the bounds, whose slope is positive
        assert loss == 0
        assert (gradient.sign() == pull.sign()).all()


def test_the_weight_of_the_commitment_is_on_what_the_encoder_says() -> None:
    """The codebook is pulled with weight 1, the encoder with ``commitment`` (arXiv 1711.00937)."""
    quantiser = NearestVectors(1, 2, codebook="gradient", commitment=0.25, patience=10**6)
    quantiser.idle.zero_()
    with torch.no_grad():
        quantiser.embedding.weight.copy_(torch.tensor([[1.0, 0.0]]))
    z = torch.zeros(1, 1, 2, requires_grad=True)
    _, loss = quantiser.learn(z)
    of_z, of_code = torch.autograd.grad(loss, [z, quantiser.embedding.weight])
    torch.testing.assert_close(of_code, torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(of_z, torch.tensor([[[-0.25, 0.0]]]))


def test_a_running_mean_comes_to_the_mean_of_what_a_code_stands_for() -> None:
    torch.manual_seed(0)
    quantiser = NearestVectors(2, 2, decay=0.9)
    centres = torch.tensor([[5.0, 0.0], [-5.0, 1.0]])
    for step in range(150):
        noise = 0.1 * _vectors(1, 40, 2, seed=step)
        quantiser.learn(centres.repeat(20, 1)[None] + noise)
    found = quantiser.embedding.weight
    torch.testing.assert_close(found[found[:, 0].argsort(descending=True)], centres, atol=0.05, rtol=0)


def test_codes_by_gradients_come_there_too() -> None:
    torch.manual_seed(0)
    quantiser = NearestVectors(2, 2, codebook="gradient")
    centres = torch.tensor([[5.0, 0.0], [-5.0, 1.0]])
    optimiser = torch.optim.Adam(quantiser.parameters(), lr=0.1)
    for step in range(150):  # one begins at each centre: here it is about how codes move
        if step == 0:
            quantiser.learn(centres[None] * 0.8)
        _, loss = quantiser.learn(centres.repeat(20, 1)[None] + 0.1 * _vectors(1, 40, 2, seed=step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = quantiser.embedding.weight.detach()
    torch.testing.assert_close(found[found[:, 0].argsort(descending=True)], centres, atol=0.2, rtol=0)


def _used_after(patience: int) -> int:
    """Codes in use when what is said has moved away from where all codes began."""
    torch.manual_seed(0)
    quantiser = NearestVectors(16, 2, patience=patience, decay=0.9)
    quantiser.learn(0.01 * _vectors(1, 64, 2))
    for step in range(40):
        z = 10.0 + _vectors(1, 64, 2, seed=step + 1)
        quantiser.learn(z)
    return len(quantiser.ids(z).unique())


def test_dead_codes_come_back_to_life() -> None:
    assert _used_after(patience=10**6) <= 2
    assert _used_after(patience=5) >= 12


def test_using_it_moves_nothing() -> None:
    quantiser: Quantiser = NearestVectors(8, 2)
    before = {name: value.clone() for name, value in quantiser.named_buffers()} | {
        "w": quantiser.embedding.weight.clone()
    }
    quantiser.vectors(quantiser.ids(_vectors(2, 3, 2)))
    after = dict(quantiser.named_buffers()) | {"w": quantiser.embedding.weight}
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FsqConfig(levels=(8, 1)), r"levels=\(8, 1\): each at least 2"),
        (lambda: FsqConfig(levels=(1024, 1025)), "product of at most"),
        (lambda: NearestConfig(codes=0), "quantiser.codes=0 must be at least 1"),
        (lambda: NearestConfig(decay=1.0), r"decay=1\.0 must be at least 0 and below 1"),
    ],
)
def test_impossible_settings_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]
