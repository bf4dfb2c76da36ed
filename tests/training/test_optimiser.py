"""Muon orthogonalises, and every parameter has one optimiser."""

import pytest
import torch
from torch import nn

from vla.models.model import Model
from vla.models.trunk.attention import Transformer
from vla.models.trunk.config import TransformerConfig
from vla.training.optimiser import Muon, build_optimisers, orthogonalise
from vla.training.recipe import OptimiserConfig


class _Model(Model):
    loss = predict = None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 8)
        self.trunk = Transformer(TransformerConfig(width=8, layers=2, heads=2))


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("muon_lr", [0.0, 0.02])
def test_each_parameter_is_in_exactly_one_optimiser(muon_lr: float) -> None:
    model = _Model()
    optimisers = build_optimisers(model, OptimiserConfig(muon_lr=muon_lr))
    assert [type(o) for o in optimisers] == [torch.optim.AdamW, Muon][: 2 if muon_lr else 1]
    held = [id(p) for o in optimisers for group in o.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_muon_gets_the_matrices_of_the_blocks_alone() -> None:
    model = _Model()
    _, muon = build_optimisers(model, OptimiserConfig())
    held = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {name.rsplit(".", 2)[-2] for name, p in model.named_parameters() if id(p) in held}
    assert names == {"qkv", "out", "up", "down"}


@pytest.mark.parametrize("shape", [(3, 16, 48), (3, 48, 16), (2, 24, 64), (1, 64, 24)])
def test_singular_values_are_about_one(shape: tuple[int, int, int]) -> None:
    values = torch.linalg.svdvals(orthogonalise(_random(*shape)))
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_directions_are_kept() -> None:
    matrices = _random(2, 8, 24)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    diagonal = u.mT @ orthogonalise(matrices) @ v.mT
    torch.testing.assert_close(diagonal, torch.diag_embed(diagonal.diagonal(dim1=1, dim2=2)), atol=1e-4, rtol=0)


def test_a_stack_equals_its_matrices() -> None:
    matrices = _random(5, 8, 20) * torch.tensor([1e-4, 1.0, 1e4, 1.0, 3.0])[:, None, None]
    each = torch.cat([orthogonalise(m[None]) for m in matrices])
    torch.testing.assert_close(orthogonalise(matrices), each, atol=1e-5, rtol=1e-5)


def test_a_zero_gradient_stays_zero() -> None:
    assert orthogonalise(torch.zeros(1, 4, 8)).abs().max() == 0


def test_steps_equal_the_plain_formula() -> None:
    parameters = [nn.Parameter(_random(6, 6) + i) for i in range(2)] + [nn.Parameter(_random(12, 3))]
    expected = [p.detach().clone() for p in parameters]
    momenta = [torch.zeros_like(p) for p in parameters]
    muon = Muon(parameters, 0.1)
    for step in range(3):
        for i, parameter in enumerate(parameters):
            gradient = torch.sin(expected[i] + step)
            parameter.grad = gradient.clone()
            momenta[i] = 0.95 * momenta[i] + 0.05 * gradient
            update = orthogonalise((0.05 * gradient + 0.95 * momenta[i])[None])[0]
            expected[i] = expected[i] - 0.1 * max(1.0, update.shape[0] / update.shape[1]) ** 0.5 * update
        muon.step()
        for parameter, value in zip(parameters, expected, strict=True):
            torch.testing.assert_close(parameter.detach(), value, atol=1e-5, rtol=1e-4)


def test_a_parameter_without_gradient_is_left_alone() -> None:
    parameter = nn.Parameter(_random(4, 4))
    before = parameter.detach().clone()
    Muon([parameter], 0.1).step()
    assert torch.equal(parameter.detach(), before)
