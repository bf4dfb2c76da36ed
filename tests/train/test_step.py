"""One step: the schedule, the average, and that a step goes downhill."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vla.datasets.sampling.order import ResumableSampler
from vla.train.optimiser import build_optimisers
from vla.train.recipe import TrainConfig
from vla.train.samples import Batches, open_run
from vla.train.step import lr_scale, train_step, update_average

MakeRecipe = Callable[..., TrainConfig]


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


@pytest.mark.parametrize("muon_lr", [0.0, 0.02])
def test_steps_on_one_batch_lower_its_loss(make_recipe: MakeRecipe, muon_lr: float) -> None:
    config = make_recipe(model={"state_dropout": 0.0}, optimiser={"muon_lr": muon_lr})
    torch.manual_seed(0)
    samples, parts = open_run(config)
    batch = Batches(samples.train, parts, ResumableSampler(order=samples.order, batch=16))[0]
    model = parts.build()
    optimisers = build_optimisers(model, config.optimiser)
    losses = [train_step(model, batch, optimisers, lr_scale=1.0, clip=1.0)["loss"].item() for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]


def test_a_step_says_what_it_did_and_leaves_no_gradient(make_recipe: MakeRecipe) -> None:
    config = make_recipe()
    samples, parts = open_run(config)
    batch = Batches(samples.train, parts, ResumableSampler(order=samples.order, batch=4))[0]
    model = parts.build()
    optimisers = build_optimisers(model, config.optimiser)
    metrics = train_step(model, batch, optimisers, lr_scale=0.5, clip=1.0)
    assert {"loss", "gradient_norm", "action_loss", "grounding_loss", "pointing_loss"} <= metrics.keys()
    assert all(value.isfinite() and not value.requires_grad for value in metrics.values())
    assert all(parameter.grad is None for parameter in model.parameters())
    rates = [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]
    assert rates == [0.5 * config.optimiser.lr, 0.5 * config.optimiser.muon_lr]


def test_a_scale_of_zero_changes_nothing(make_recipe: MakeRecipe) -> None:
    config = make_recipe()
    samples, parts = open_run(config)
    batch = Batches(samples.train, parts, ResumableSampler(order=samples.order, batch=4))[0]
    model = parts.build()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    train_step(model, batch, build_optimisers(model, config.optimiser), lr_scale=0.0, clip=1.0)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
