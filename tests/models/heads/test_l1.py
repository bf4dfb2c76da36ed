"""The regression head: the mean of absolute errors, and each step with a query of its own."""

from collections.abc import Callable
from typing import cast

import torch

from tests.models.reading import read_as
from vla.models.heads.config import L1HeadConfig
from vla.models.heads.l1 import L1Head
from vla.models.trunk.inputs import Batch
from vla.models.unified import UnifiedTransformer

MakeModel = Callable[..., UnifiedTransformer]
MakeBatch = Callable[..., Batch]


@torch.no_grad()
def test_the_loss_is_the_mean_absolute_error_of_what_is_written(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = make_model(head=L1HeadConfig()), make_batch()
    head = cast(L1Head, model.head)
    hidden = torch.randn(7, 3, 24, generator=torch.Generator().manual_seed(0))
    written = head.sample(model.trunk, read_as(hidden), batch.inputs, model.table)
    torch.testing.assert_close(written, head.readout(hidden))
    loss, _ = head.loss(model.trunk, read_as(hidden), batch.inputs, batch.targets, model.table)
    torch.testing.assert_close(loss, (written - batch.targets.actions).abs().mean())


def test_it_needs_no_ids(make_model: MakeModel) -> None:
    model = make_model(head=L1HeadConfig())
    assert len(model.table.vocabulary.range("action")) == 0
