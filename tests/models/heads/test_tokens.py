"""The autoregressive head: each token in a block of its own, and nothing but what the grammar allows."""

from collections.abc import Callable
from typing import cast

import pytest
import torch

from tests.models.reading import read_as
from vla.models.codecs.config import BinsConfig, CodecConfig, FastConfig
from vla.models.heads.config import TokensHeadConfig
from vla.models.heads.head import ACTION_BLOCK
from vla.models.heads.tokens import TokensHead
from vla.models.model import Model
from vla.models.trunk.inputs import Batch
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


def test_what_follows_a_complete_chunk_is_not_written(
    make_model: MakeModel, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes end with the longest chunk of the batch, and the chunks are those of writing on to the last token."""
    model, head = _model(make_model, FastConfig(vocabulary=512, tokens=12))
    inputs = make_batch(size=2, seed=4).inputs
    passes: list[int] = []
    model.trunk.register_forward_hook(lambda *_: passes.append(1))
    chunks = model.predict(inputs).actions
    short = len(passes)
    # A head that believes that a token is always to come writes all of them.
    told = head.codec.remaining
    monkeypatch.setattr(head.codec, "remaining", lambda before: (told(before)[0], told(before)[1] + 1))
    passes.clear()
    torch.testing.assert_close(model.predict(inputs).actions, chunks)
    assert 1 < short < len(passes) == 12  # the first is read with the inputs
