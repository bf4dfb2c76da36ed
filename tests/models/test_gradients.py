"""How hard each loss pulls: norms of parts whose sum is the gradient, beside a step that they do not change."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.learning import scaled
from vla.models.auxiliaries.config import GroundingConfig
from vla.models.gradients import gradient_norms
from vla.models.model import Model
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.inputs import Batch

MakeModel = Callable[..., Model]
MakeBatch = Callable[..., Batch]
NAMES = [f"gradient_norm/{name}" for name in ("action", "grounding", "pointing")]


def _norms(model: Model, batch: Batch) -> dict[str, Tensor]:
    torch.manual_seed(5)
    return gradient_norms(model, batch.inputs, batch.targets)


def _pull(model: Model, batch: Batch, *names: str) -> Tensor:
    """The gradient of a sum of terms, at what is shared, as one vector."""
    torch.manual_seed(5)
    terms, _ = model.terms(batch.inputs, batch.targets)
    shared = model.shared()
    pulls = torch.autograd.grad(torch.stack([terms[name] for name in names]).sum(), shared, allow_unused=True)
    return torch.cat([torch.zeros(p.numel()) if g is None else g.flatten() for p, g in zip(shared, pulls, strict=True)])


def test_each_is_the_norm_of_its_own_part_of_the_gradient(make_model: MakeModel, make_batch: MakeBatch) -> None:
    """With the same draws, the states that are left out among them; and the parts are the whole."""
    model, batch = scaled(make_model(dropout=0.5)), make_batch()
    found = _norms(model, batch)
    assert list(found) == NAMES
    parts = [name.removeprefix("gradient_norm/") for name in found]
    for name in parts:
        torch.testing.assert_close(found[f"gradient_norm/{name}"], _pull(model, batch, name).norm())
    summed = torch.stack([_pull(model, batch, name) for name in parts]).sum(dim=0)
    torch.testing.assert_close(summed, _pull(model, batch, *parts), rtol=1e-3, atol=1e-5)


def test_a_weight_is_in_it(make_model: MakeModel, make_batch: MakeBatch) -> None:
    batch = make_batch()
    whole, quarter = (
        _norms(scaled(make_model(auxiliaries={"where": GroundingConfig(weight=weight)})), batch)
        for weight in (1.0, 0.25)
    )
    torch.testing.assert_close(quarter["gradient_norm/where"], whole["gradient_norm/where"] / 4)
    torch.testing.assert_close(quarter["gradient_norm/action"], whole["gradient_norm/action"])


def test_nothing_is_left_behind(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = make_model(dropout=0.5), make_batch()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    gradient_norms(model, batch.inputs, batch.targets)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_where_there_is_nothing_to_compare_nothing_is_measured(make_model: MakeModel, make_batch: MakeBatch) -> None:
    assert _norms(make_model(auxiliaries={}), make_batch()) == {}
    model = make_model()
    for parameter in model.shared():
        parameter.requires_grad_(False)
    assert _norms(model, make_batch()) == {}


@pytest.mark.parametrize("trunk", [{"recompute": True}, {"rope": 1e4}], ids=["recomputed", "rotary"])
def test_any_trunk_is_measured(trunk: dict[str, Any], make_model: MakeModel, make_batch: MakeBatch) -> None:
    found = _norms(make_model(trunk=TransformerConfig(width=24, layers=2, heads=3, **trunk)), make_batch())
    assert list(found) == NAMES
    assert all(norm > 0 for norm in found.values())
    plain = _norms(make_model(), make_batch())
    if "recompute" in trunk:
        torch.testing.assert_close(found, plain)


def test_a_loss_that_reaches_nothing_that_is_trained_does_not_pull(
    make_model: MakeModel, make_batch: MakeBatch
) -> None:
    """Maps that point are a reader's alone: with all but the trunk frozen their loss has no gradient at all."""
    model = scaled(make_model())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("trunk."))
    found = _norms(model, make_batch())
    assert found["gradient_norm/pointing"] == 0
    assert found["gradient_norm/action"] > 0
