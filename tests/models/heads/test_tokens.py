"""The autoregressive head: each token in a block of its own, and nothing but what the grammar allows."""

from collections.abc import Callable
from typing import cast

import pytest
import torch

from tests.models.learning import scaled
from tests.models.reading import read_as
from vla.models.codecs.config import BinsConfig, CodecConfig, FastConfig
from vla.models.heads.config import TokensHeadConfig
from vla.models.heads.head import ACTION_BLOCK
from vla.models.heads.tokens import TokensHead, _spans
from vla.models.model import Model
from vla.models.trunk.inputs import Batch
from vla.models.trunk.sequence import Reading
from vla.models.unified import UnifiedTransformer

MakeModel = Callable[..., Model]
MakeBatch = Callable[..., Batch]


def _model(make_model: MakeModel, codec: CodecConfig | None = None) -> tuple[UnifiedTransformer, TokensHead]:
    model = cast(UnifiedTransformer, make_model(head=TokensHeadConfig(codec=codec or BinsConfig(bins=16))))
    return model, cast(TokensHead, model.head)


def test_each_token_is_a_block_that_holds_the_one_before_it(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, head = _model(make_model)
    targets = make_batch().targets
    ids, _ = head.codec.encode(targets.actions, targets.valid)
    segment = head._teach(ids, model.table)
    assert segment.x.shape == (7, 12, 24)
    assert segment.marks().block.tolist() == [ACTION_BLOCK + i for i in range(12)]
    before = segment.x - head.position
    torch.testing.assert_close(before[:, 0], model.table.special("begin").expand(7, -1))
    torch.testing.assert_close(before[:, 1:], model.table.rows("action")[ids[:, :-1]])


def test_the_loss_is_that_of_the_ids_that_are_allowed(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, head = _model(make_model)
    inputs, targets = make_batch().inputs, make_batch().targets
    hidden = torch.randn(7, 12, 24, generator=torch.Generator().manual_seed(0))
    ids, _ = head.codec.encode(targets.actions, targets.valid)
    rows = model.table.rows("action").view(4, 16, 24)
    expected = []
    for position in range(12):
        joint = position % 4
        chance = (hidden[:, position] @ rows[joint].T).log_softmax(dim=-1)
        expected.append(-chance.gather(1, ids[:, position, None] - 16 * joint))
    loss, _ = head.loss(model.trunk, read_as(hidden), inputs, targets, model.table)
    torch.testing.assert_close(loss, torch.stack(expected).mean())


@pytest.mark.parametrize("gradients", [False, True], ids=["static", "growing"])
def test_what_follows_a_complete_chunk_is_not_written(
    gradients: bool, make_model: MakeModel, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens end with the longest chunk of the batch, and the chunks are those of writing on to the last token."""
    model, head = _model(make_model, FastConfig(vocabulary=512, tokens=12))
    inputs = make_batch(size=2, seed=4).inputs
    written: list[int] = []
    allowed = head.codec.allowed
    monkeypatch.setattr(head.codec, "allowed", lambda before: (written.append(1), allowed(before))[1])
    with torch.set_grad_enabled(gradients):
        chunks = model.predict(inputs).actions
        short = len(written)
        # A head that believes that a token is always to come writes all of them.
        told = head.codec.remaining
        monkeypatch.setattr(head.codec, "remaining", lambda before: (told(before)[0], told(before)[1] + 1))
        written.clear()
        torch.testing.assert_close(model.predict(inputs).actions, chunks)
    assert 0 < short < len(written) == 12


@torch.no_grad()
def test_of_the_rows_only_those_that_are_allowed_are_multiplied(make_model: MakeModel, make_batch: MakeBatch) -> None:
    """And what is found among them is what the grammar leaves of all of them."""
    model, head = _model(make_model)
    scaled(model, 0.3).eval()
    prefix = Reading(model.trunk, model._read_inputs(make_batch().inputs)[0], room=head.room)
    assert head._spans == [(16 * (i % 4), 16 * (i % 4) + 16) for i in range(12)]
    sliced = head.write(model.trunk, prefix, model.table)
    spans, head._spans = head._spans, None
    assert torch.equal(head.write(model.trunk, prefix, model.table), sliced)
    assert len(sliced.unique()) > 12
    head._spans = [(first + 1, stop) for first, stop in spans]  # a mistake is noticed
    assert not torch.equal(head.write(model.trunk, prefix, model.table), sliced)


def test_a_grammar_with_gaps_has_no_spans() -> None:
    assert _spans(torch.tensor([[True, True, False], [False, False, True]])) == [(0, 2), (2, 3)]
    assert _spans(torch.tensor([[True, False, True], [False, False, True]])) is None
    assert _spans(None) is None
