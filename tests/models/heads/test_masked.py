"""Masked decoding: what is masked is asked for and not seen, the surest come first, and one round is parallel."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from tests.models.reading import read_as
from vla.core.errors import ConfigError
from vla.models.codecs.config import FastConfig
from vla.models.heads.config import MaskedHeadConfig
from vla.models.heads.masked import MaskedHead
from vla.models.heads.rounds import draw_mask, fill
from vla.models.trunk.inputs import Batch
from vla.models.trunk.sequence import Prefix, Reading
from vla.models.unified import UnifiedTransformer

MakeModel = Callable[..., UnifiedTransformer]
MakeBatch = Callable[..., Batch]
LENGTH, BINS = 12, 128


def _model(make_model: MakeModel, rounds: int = 4) -> tuple[UnifiedTransformer, MaskedHead]:
    model = make_model(head=MaskedHeadConfig(rounds=rounds))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.eval(), cast(MaskedHead, model.head)


def _read(model: UnifiedTransformer, batch: Batch) -> Prefix:
    return Reading(model.trunk, model._read_inputs(batch.inputs)[0])


def _watch(head: MaskedHead, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Ids, which of them were shown, and the logits, of each reading."""
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    inner = head._read

    def reading(trunk: Any, prefix: Any, ids: Tensor, shown: Tensor, table: Any) -> Tensor:
        logits = inner(trunk, prefix, ids, shown, table)
        seen.append((ids, shown, logits))
        return logits

    monkeypatch.setattr(head, "_read", reading)
    return seen


@pytest.mark.parametrize(
    ("rounds", "left"), [(1, [0]), (2, [8, 0]), (4, [11, 8, 4, 0]), (12, [11, 11, 11, 10, 9, 8, 7, 6, 4, 3, 1, 0])]
)
def test_rounds_fill_little_first_and_all_at_last(rounds: int, left: list[int]) -> None:
    masked = []

    def read(ids: Tensor, filled: Tensor) -> Tensor:
        masked.append(int((~filled).sum()))
        return torch.randn(*ids.shape, 5, generator=torch.Generator().manual_seed(len(masked)))

    fill(read, 1, LENGTH, rounds, torch.device("cpu"))
    assert [*masked[1:], 0] == left


@torch.no_grad()
def test_each_round_keeps_the_surest(
    make_model: MakeModel, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, head = _model(make_model)
    batch = make_batch()
    seen = _watch(head, monkeypatch)
    chunk = head.sample(model.trunk, _read(model, batch), batch.inputs, model.table)
    assert [int((~shown).sum(dim=1)[0]) for _, shown, _ in seen] == [LENGTH, 11, 8, 4]
    for (_, before, logits), (ids, shown, _) in pairwise(seen):
        assert (shown | ~before).all()  # what was filled stays
        chance, best = logits.softmax(dim=-1).max(dim=-1)
        new = shown & ~before
        assert torch.equal(ids[new], best[new])
        waiting = ~shown
        worst = chance.masked_fill(~new, torch.inf).amin(dim=1)
        assert (worst >= chance.masked_fill(~waiting, -torch.inf).amax(dim=1)).all()
    ids, _, logits = seen[-1]
    last = torch.where(seen[-1][1], ids, logits.argmax(dim=-1))
    assert torch.equal(chunk, head.codec.decode(last))


@torch.no_grad()
def test_one_round_is_parallel(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, head = _model(make_model, rounds=1)
    batch = make_batch()
    prefix = _read(model, batch)
    nothing = torch.zeros(7, LENGTH, dtype=torch.long)
    logits = head._read(model.trunk, prefix, nothing, nothing.bool(), model.table)
    expected = head.codec.decode(logits.argmax(dim=-1))
    assert torch.equal(head.sample(model.trunk, prefix, batch.inputs, model.table), expected)


@torch.no_grad()
def test_a_masked_token_is_not_seen_and_a_shown_one_is(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, head = _model(make_model)
    batch = make_batch()
    prefix = _read(model, batch)
    ids, _ = head.codec.encode(batch.targets.actions, batch.targets.valid)
    shown = torch.arange(LENGTH).expand(7, -1) % 2 == 0
    before = head._read(model.trunk, prefix, ids, shown, model.table)
    for place in range(LENGTH):
        other = ids.clone()
        other[:, place] += torch.where(ids[:, place] % BINS == 0, 1, -1)
        after = head._read(model.trunk, prefix, other, shown, model.table)
        assert torch.equal(after, before) is (place % 2 == 1)


@torch.no_grad()
def test_the_loss_is_over_what_is_masked(
    make_model: MakeModel, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, head = _model(make_model)
    batch = make_batch()
    seen = _watch(head, monkeypatch)
    hidden = torch.randn(7, LENGTH, 24, generator=torch.Generator().manual_seed(0))
    loss, _ = head.loss(model.trunk, read_as(hidden), batch.inputs, batch.targets, model.table)
    ((ids, shown, logits),) = seen
    chance = logits.log_softmax(dim=-1).gather(2, ids[..., None])[..., 0]
    torch.testing.assert_close(loss, -chance[~shown].mean())
    assert logits.isfinite().sum(dim=-1).unique().tolist() == [BINS]  # of each joint its own bins


def test_shares_are_those_that_decoding_meets() -> None:
    """From one token to all of them: the cosine of a uniform angle, of which half is above 0.707."""
    torch.manual_seed(0)
    masked = draw_mask(4000, 100, torch.device("cpu")).sum(dim=1)
    assert masked.min() >= 1
    assert masked.max() == 100
    assert ((masked > 71).float().mean() - 0.5).abs() < 0.03


def test_a_codec_whose_tokens_depend_on_each_other_is_refused(make_model: MakeModel) -> None:
    """FAST's budget of tokens, for one."""
    with pytest.raises(ConfigError, match=r"Fast allows at a place depends on the tokens before it; use kind tokens"):
        make_model(head=MaskedHeadConfig(codec=FastConfig(tokens=12)))
