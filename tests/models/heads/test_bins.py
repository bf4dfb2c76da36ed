"""The parallel head: its layouts, and limits that are the codec's."""

from collections.abc import Callable
from typing import cast

import pytest
import torch

from tests.models.reading import read_as
from vla.models.heads.bins import BinsHead
from vla.models.heads.config import BinsHeadConfig
from vla.models.heads.head import ACTION_BLOCK
from vla.models.model import Model
from vla.models.trunk.inputs import Batch
from vla.models.unified import UnifiedTransformer

MakeModel = Callable[..., Model]
MakeBatch = Callable[..., Batch]


def _model(make_model: MakeModel, layout: str) -> tuple[UnifiedTransformer, BinsHead]:
    model = cast(UnifiedTransformer, make_model(head=BinsHeadConfig(bins=16, layout=layout)))  # type: ignore[arg-type]
    return model, cast(BinsHead, model.head)


@pytest.mark.parametrize(("layout", "tokens"), [("step", 3), ("joint", 12)])
def test_layouts_have_the_tokens_they_say(
    layout: str, tokens: int, make_model: MakeModel, make_batch: MakeBatch
) -> None:
    model, head = _model(make_model, layout)
    segment = head._queries(make_batch().inputs, model.table)
    assert segment.x.shape == (7, tokens, 24)
    assert len(segment.x[0].unique(dim=0)) == tokens  # each query knows which it is
    assert torch.equal(segment.marks().block, torch.full((tokens,), ACTION_BLOCK))
    assert head.ids == 4 * 16


def test_a_joint_is_written_with_its_own_bins_alone(make_model: MakeModel) -> None:
    """Of ``joint``, each token is compared with the rows of its joint; of ``step``, with those of all joints."""
    for layout, tokens in (("step", 3), ("joint", 12)):
        model, head = _model(make_model, layout)
        hidden = torch.randn(2, tokens, 24, generator=torch.Generator().manual_seed(0))
        logits = head._logits(hidden, model.table)
        assert logits.shape == (2, 3, 4, 16)
        rows = model.table.rows("action").view(4, 16, 24)
        for step in range(3):
            for joint in range(4):
                token = hidden[:, step if layout == "step" else step * 4 + joint]
                torch.testing.assert_close(logits[:, step, joint], token @ rows[joint].T)


def test_the_loss_is_least_at_the_labels(make_model: MakeModel, make_batch: MakeBatch) -> None:
    """Hidden states whose logits are the soft targets give their entropy, and decode to the labels."""
    model, head = _model(make_model, "joint")
    inputs, targets = make_batch().inputs, make_batch().targets
    wanted = head.cells.targets(targets.actions).log().clamp(min=-60)
    rows = model.table.rows("action").view(4, 16, 24)
    hidden = torch.einsum("bhdv,dev->bhde", wanted, torch.linalg.pinv(rows)).flatten(1, 2)
    loss, _ = head.loss(model.trunk, read_as(hidden), inputs, targets, model.table)
    entropy = -(wanted.exp() * wanted).sum(dim=-1).mean()
    torch.testing.assert_close(loss, entropy, atol=1e-3, rtol=1e-3)
    inside = targets.actions.abs() < 0.8
    decoded = head.cells.decode(head._logits(hidden, model.table))
    torch.testing.assert_close(decoded[inside], targets.actions[inside], atol=0.01, rtol=0)
