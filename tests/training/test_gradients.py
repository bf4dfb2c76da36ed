"""How hard each loss pulls: norms of parts whose sum is the gradient, measured beside a run that they do not change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vla.models.model import Model
from vla.models.trunk.inputs import Batch
from vla.training.engines import train
from vla.training.gradients import gradient_norms
from vla.training.metrics import read_metrics
from vla.training.recipe import TrainConfig
from vla.training.samples import open_samples

MakeRecipe = Callable[..., TrainConfig]
NAMES = [f"gradient_norm/{name}" for name in ("action", "grounding", "pointing")]


def _begin(config: TrainConfig) -> tuple[Model, Batch]:
    torch.manual_seed(0)
    samples = open_samples(config)
    model = samples.blueprint.build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, samples.batches(batch=8, rank=0, world=1, start=0)[0]


def _whole(model: Model, batch: Batch, **weights: float) -> Tensor:
    """The gradient of a sum of terms, at what is shared, as one vector."""
    torch.manual_seed(5)
    terms, _ = model.terms(batch.inputs, batch.targets)
    total = sum(weights.get(name, 0.0) * term for name, term in terms.items())
    assert isinstance(total, Tensor)
    pulls = torch.autograd.grad(total, model.shared(), allow_unused=True)
    return torch.cat(
        [
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for p, g in zip(model.shared(), pulls, strict=True)
        ]
    )


def test_each_is_the_norm_of_its_own_part_of_the_gradient(make_recipe: MakeRecipe) -> None:
    """With the same draws, the state that is left out among them; and the parts are the whole."""
    model, batch = _begin(make_recipe())
    torch.manual_seed(5)
    found = gradient_norms(model, batch.inputs, batch.targets)
    assert list(found) == NAMES
    parts = {name.removeprefix("gradient_norm/"): norm for name, norm in found.items()}
    for name, norm in parts.items():
        torch.testing.assert_close(norm, _whole(model, batch, **{name: 1.0}).norm(), rtol=1e-4, atol=1e-6)
    summed = sum(_whole(model, batch, **{name: 1.0}) for name in parts)
    whole = _whole(model, batch, **dict.fromkeys(parts, 1.0))
    assert isinstance(summed, Tensor)
    torch.testing.assert_close(summed, whole, rtol=1e-3, atol=1e-5)
    assert max(parts.values()) < sum(parts.values())


def test_a_weight_is_in_it(make_recipe: MakeRecipe) -> None:
    norms = []
    for weight in (1.0, 0.25):
        auxiliaries = {"grounding": {"bins": 8, "weight": weight}}
        model, batch = _begin(make_recipe(model={"auxiliaries": auxiliaries, "head": {"bins": 16}}))
        torch.manual_seed(5)
        norms.append(gradient_norms(model, batch.inputs, batch.targets))
    torch.testing.assert_close(norms[1]["gradient_norm/grounding"], norms[0]["gradient_norm/grounding"] / 4)
    torch.testing.assert_close(norms[1]["gradient_norm/action"], norms[0]["gradient_norm/action"])


def test_nothing_is_left_behind(make_recipe: MakeRecipe) -> None:
    model, batch = _begin(make_recipe())
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    gradient_norms(model, batch.inputs, batch.targets)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_where_there_is_nothing_to_compare_nothing_is_measured(make_recipe: MakeRecipe) -> None:
    alone = make_recipe(model={"auxiliaries": {"grounding": None, "pointing": None}})
    model, batch = _begin(alone)
    assert gradient_norms(model, batch.inputs, batch.targets) == {}
    model, batch = _begin(make_recipe())
    for parameter in model.shared():
        parameter.requires_grad_(False)
    assert gradient_norms(model, batch.inputs, batch.targets) == {}


@pytest.mark.parametrize("trunk", [{"recompute": True}, {"rope": 1e4}], ids=["recomputed", "rotary"])
def test_any_trunk_is_measured(trunk: dict[str, Any], make_recipe: MakeRecipe) -> None:
    model = {"trunk": {"width": 32, "layers": 1, "heads": 2} | trunk}
    found = gradient_norms(*_sides(make_recipe(model=model)))
    assert list(found) == NAMES
    assert all(norm > 0 for norm in found.values())


def _sides(config: TrainConfig) -> tuple[Model, Any, Any]:
    model, batch = _begin(config)
    return model, batch.inputs, batch.targets


def test_a_run_logs_them_every_so_many_steps_and_is_the_same_run(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    curves = {}
    for every in (0, 1, 2, 500):
        train(make_recipe(gradient_steps=every), tmp_path / str(every))
        curves[every] = read_metrics(tmp_path / str(every))
    said = {every: [line["step"] for line in lines if NAMES[0] in line] for every, lines in curves.items()}
    assert said == {0: [], 1: [1, 2, 3, 4], 2: [1, 3], 500: [1]}
    losses = {every: [line["loss"] for line in lines] for every, lines in curves.items()}
    assert all(values == losses[0] for values in losses.values())
    first = curves[1][0]
    assert all(first[name] > 0 for name in NAMES)
    # What the head has of its own is in the whole, and in none of these.
    assert first["gradient_norm"] < 1.2 * sum(first[name] for name in NAMES)
