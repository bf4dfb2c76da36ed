"""The two passes: from nothing, and from a noised chunk in training, from the first answer in acting."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from tests.models.reading import read_as
from vla.models.heads.config import MipHeadConfig
from vla.models.heads.mip import MipHead
from vla.models.trunk.inputs import Batch
from vla.models.trunk.sequence import Reading
from vla.models.unified import UnifiedTransformer

MakeModel = Callable[..., UnifiedTransformer]
MakeBatch = Callable[..., Batch]


def _watch(head: MipHead, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the second pass is given, each time."""
    given: list[Tensor] = []
    inner = head._second

    def second(trunk: Any, prefix: Any, inputs: Any, known: Tensor, table: Any) -> Tensor:
        given.append(known)
        return inner(trunk, prefix, inputs, known, table)

    monkeypatch.setattr(head, "_second", second)
    return given


@pytest.fixture
def model(make_model: MakeModel) -> UnifiedTransformer:
    return make_model(head=MipHeadConfig(known=0.75))


@torch.no_grad()
def test_training_and_acting_give_the_second_pass_what_the_paper_says(
    model: UnifiedTransformer, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, batch = cast(MipHead, model.head), make_batch()
    given = _watch(head, monkeypatch)
    prefix = Reading(model.trunk, model._read_inputs(batch.inputs)[0])
    torch.manual_seed(2)
    head.loss(model.trunk, prefix, batch.inputs, batch.targets, model.table)
    torch.manual_seed(2)
    noise = torch.randn(7, 3, 4)
    torch.testing.assert_close(given[0], 0.75 * batch.targets.actions + 0.25 * noise)
    chunk = head.sample(model.trunk, prefix, batch.inputs, model.table)
    first = head._first(model.trunk, prefix, batch.inputs, model.table)
    torch.testing.assert_close(given[1], 0.75 * first)
    assert not torch.equal(chunk, first)
    assert torch.equal(head.sample(model.trunk, prefix, batch.inputs, model.table), chunk)  # acting draws nothing


@torch.no_grad()
def test_the_loss_is_that_of_both_passes(model: UnifiedTransformer, make_batch: MakeBatch) -> None:
    head, batch = cast(MipHead, model.head), make_batch()
    hidden = torch.randn(7, 3, 24, generator=torch.Generator().manual_seed(0))  # whatever either pass is given
    loss, metrics = head.loss(model.trunk, read_as(hidden), batch.inputs, batch.targets, model.table)
    error = ((head.readout(hidden) - batch.targets.actions) ** 2).mean()
    torch.testing.assert_close(loss, 2 * error)
    torch.testing.assert_close(metrics["action_loss"], error)
    torch.testing.assert_close(metrics["first_pass_loss"], error)
