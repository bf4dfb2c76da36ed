"""One step: the schedule, the average, and that a step goes downhill."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vla.models.model import Model
from vla.models.trunk.inputs import Batch
from vla.training.optimiser import build_optimisers
from vla.training.recipe import TrainConfig
from vla.training.samples import open_samples
from vla.training.step import lr_scale, train_step, update_average

MakeRecipe = Callable[..., TrainConfig]
Start = Callable[..., tuple[Model, list[torch.optim.Optimizer], Batch, TrainConfig]]


def test_the_schedule_warms_up_stays_and_falls_to_almost_zero() -> None:
    def scale(step: int, fraction: float) -> float:
        return lr_scale(step, fraction, warmup_steps=10, constant=0.3)

    assert [scale(step, 0.0) for step in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert scale(50, 0.3) == 1.0
    assert scale(50, 0.65) == pytest.approx(0.5, abs=2e-3)
    assert 0 < scale(50, 1.0) < 2e-3


@given(
    step=st.integers(0, 10_000),
    fractions=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    warmup_steps=st.integers(0, 1000),
    constant=st.floats(0, 0.99),
)
def test_the_schedule_is_positive_bounded_and_never_rises_with_time(
    step: int, fractions: list[float], warmup_steps: int, constant: float
) -> None:
    early, late = (lr_scale(step, f, warmup_steps=warmup_steps, constant=constant) for f in fractions)
    assert 0 < late <= early <= 1


def test_the_average_equals_the_naive_recursion() -> None:
    model = nn.Linear(3, 2)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    expected = {k: v.double() for k, v in average.items()}
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 60):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        update_average(average, model, step=step, span=0.1)
        memory = max(1.0, 0.1 * (step + 1))
        for name, value in model.state_dict().items():
            expected[name] = expected[name] * (1 - 1 / memory) + value.double() / memory
    for name, value in expected.items():
        torch.testing.assert_close(average[name].double(), value, atol=1e-5, rtol=1e-5)


def test_the_average_is_the_weights_themselves_at_first() -> None:
    model = nn.Linear(2, 2)
    average = {k: torch.zeros_like(v) for k, v in model.state_dict().items()}
    update_average(average, model, step=1, span=0.1)
    assert all(torch.equal(average[k], v) for k, v in model.state_dict().items())


@pytest.fixture
def start(make_recipe: MakeRecipe) -> Start:
    """A model with its optimisers and a batch for it."""

    def begin(batch: int = 4, **changes: Any) -> tuple[Model, list[torch.optim.Optimizer], Batch, TrainConfig]:
        config = make_recipe(**changes)
        torch.manual_seed(0)
        samples = open_samples(config)
        model = samples.blueprint.build()
        return (
            model,
            build_optimisers(model, config.optimiser),
            samples.batches(batch=batch, rank=0, world=1, start=0)[0],
            config,
        )

    return begin


def _loss(model: Model, batch: Batch) -> torch.Tensor:
    return model(batch.inputs, batch.targets)[0]


@pytest.mark.parametrize("muon_lr", [0.0, 0.02])
def test_steps_on_one_batch_lower_its_loss(start: Start, muon_lr: float) -> None:
    model, optimisers, batch, _ = start(16, optimiser={"muon_lr": muon_lr})
    losses = []
    for _ in range(20):
        metrics = train_step(model, _loss(model, batch), optimisers, lr_scale=1.0, clip=1.0)
        losses.append(metrics["loss"].item())
    assert losses[-1] < 0.8 * losses[0]


def test_a_step_says_what_it_did_and_leaves_no_gradient(start: Start) -> None:
    model, optimisers, batch, config = start()
    metrics = train_step(model, _loss(model, batch), optimisers, lr_scale=0.5, clip=1.0)
    assert metrics.keys() == {"loss", "gradient_norm"}
    assert all(value.isfinite() and not value.requires_grad for value in metrics.values())
    assert all(parameter.grad is None for parameter in model.parameters())
    rates = [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]
    assert rates == [0.5 * config.optimiser.lr, 0.5 * config.optimiser.muon_lr]


def test_the_scale_is_not_taken_twice(start: Start) -> None:
    model, optimisers, batch, config = start()
    for _ in range(3):
        train_step(model, _loss(model, batch), optimisers, lr_scale=0.5, clip=1.0)
    assert optimisers[0].param_groups[0]["lr"] == 0.5 * config.optimiser.lr


def test_gradients_are_clipped(start: Start) -> None:
    """AdamW does not care; plain descent shows how long the step is."""
    model, _, batch, _ = start()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    plain = torch.optim.SGD(model.parameters(), lr=1.0)
    norm = train_step(model, _loss(model, batch), [plain], lr_scale=1.0, clip=0.01)["gradient_norm"]
    moved = torch.cat([(before[k] - v).flatten() for k, v in model.state_dict().items()]).norm()
    assert norm > 0.01
    torch.testing.assert_close(moved, torch.tensor(0.01), atol=1e-4, rtol=1e-2)


def test_a_scale_of_zero_changes_nothing(start: Start) -> None:
    model, optimisers, batch, _ = start()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    train_step(model, _loss(model, batch), optimisers, lr_scale=0.0, clip=1.0)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
