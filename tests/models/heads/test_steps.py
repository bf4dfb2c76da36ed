"""The mean over what may be learned, and tokens of which nobody sees those that are committed."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from vla.models.heads.head import ACTION_BLOCK
from vla.models.heads.steps import step_mean, step_segment, undecided
from vla.models.trunk.inputs import Batch, Committed

MakeBatch = Callable[..., Batch]


@pytest.fixture
def batch(make_batch: MakeBatch) -> Batch:
    """Of three samples no step, one and two are committed; the last lacks a dimension, and ends after two steps."""
    batch = make_batch(size=3)
    committed = Committed(actions=batch.targets.actions, steps=torch.tensor([0, 1, 2]))
    valid = torch.ones_like(batch.targets.valid)
    valid[1, 2:], valid[1, :, 3] = False, False
    return Batch(inputs=replace(batch.inputs, committed=committed), targets=replace(batch.targets, valid=valid))


def test_the_mean_is_over_what_may_be_learned_and_is_not_decided(batch: Batch) -> None:
    error = torch.rand(3, 3, 4, generator=torch.Generator().manual_seed(0))
    counted = torch.cat([error[0].flatten(), error[1, 1, :3], error[2, 2]])
    error[1, 2], error[1, :, 3], error[2, 0] = torch.inf, torch.nan, torch.inf  # an untaught step may give anything
    mean, metrics = step_mean(error, batch.inputs, batch.targets)
    torch.testing.assert_close(mean, counted.mean())
    assert metrics == {"action_loss": mean}


def test_what_gives_no_number_gives_no_gradient(batch: Batch) -> None:
    error = torch.ones(3, 3, 4, requires_grad=True)
    step_mean(error / error.detach().where(batch.targets.valid, 0.0), batch.inputs, batch.targets)[0].backward()
    assert error.grad is not None
    assert error.grad[0].isfinite().all()


@pytest.mark.parametrize("per_step", [1, 4])
def test_tokens_of_decided_steps_are_padding(per_step: int, batch: Batch) -> None:
    segment = step_segment(torch.zeros(3, 3 * per_step, 5), undecided(batch.inputs, 3))
    assert segment.block == ACTION_BLOCK
    asked = [[1, 1, 1], [0, 1, 1], [0, 0, 1]]
    assert segment.valid.tolist() == [[bool(a) for a in row for _ in range(per_step)] for row in asked]


def test_without_committed_steps_all_are_asked_for(make_batch: MakeBatch) -> None:
    assert undecided(make_batch(size=2).inputs, 5).tolist() == [[True] * 5] * 2
