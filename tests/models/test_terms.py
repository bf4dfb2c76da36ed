"""The terms of a loss leave each other alone: no modality weighs less where another has more tokens."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.learning import scaled
from vla.core.errors import ConfigError
from vla.models.auxiliaries.config import GroundingConfig
from vla.models.codecs.config import BinsConfig
from vla.models.heads.config import BinsHeadConfig, FlowHeadConfig, HeadConfig, TokensHeadConfig
from vla.models.kinds.unified import UnifiedConfig
from vla.models.model import Model
from vla.models.trunk.inputs import Batch

MakeModel = Callable[..., Model]
MakeBatch = Callable[..., Batch]
Change = Callable[..., Batch]
Pulls = dict[str, Tensor]
"""Gradients by the names of parameters."""
HEADS: dict[str, HeadConfig] = {
    "step": BinsHeadConfig(bins=16),
    "joint": BinsHeadConfig(bins=16, layout="joint"),
    "tokens": TokensHeadConfig(codec=BinsConfig(bins=16)),
    "flow": FlowHeadConfig(width=8),
}


def _pull(model: Model, batch: Batch, name: str) -> tuple[Tensor, Pulls]:
    """One term of the loss, and its own gradient."""
    torch.manual_seed(0)
    term = model.terms(batch.inputs, batch.targets)[0][name]
    named = dict(model.named_parameters())
    found = torch.autograd.grad(term, list(named.values()), allow_unused=True)
    return term.detach(), {n: g for n, g in zip(named, found, strict=True) if g is not None and g.abs().any()}


def _same(one: tuple[Tensor, Pulls], other: tuple[Tensor, Pulls]) -> bool:
    return (
        torch.equal(one[0], other[0])
        and one[1].keys() == other[1].keys()
        and all(torch.equal(gradient, other[1][name]) for name, gradient in one[1].items())
    )


def _fewer_actions(batch: Batch, change: Change) -> Batch:
    valid = torch.ones_like(batch.targets.valid)
    valid[:, 1:] = False
    return change(batch, valid=valid)


def _less_known(batch: Batch, change: Change, signal: str) -> Batch:
    value = batch.targets.signals[signal].clone()
    value[::2] = torch.nan
    return change(batch, signals={**batch.targets.signals, signal: value})


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_a_term_stays_where_others_have_other_counts_of_tokens(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch, change: Change
) -> None:
    """The same loss and the same gradient of every weight, to the bit."""
    model, batch = scaled(make_model(head=head)), make_batch()
    fewer = _fewer_actions(batch, change)
    for name in ("grounding", "pointing"):
        before = _pull(model, batch, name)
        assert before[1]
        assert _same(before, _pull(model, fewer, name))
        less = _less_known(batch, change, name)
        assert not _same(before, _pull(model, less, name))
        for other in {"action", "grounding", "pointing"} - {name}:
            assert _same(_pull(model, batch, other), _pull(model, less, other))
    assert not _same(_pull(model, batch, "action"), _pull(model, fewer, "action"))


def test_a_head_of_more_tokens_takes_nothing_from_the_others(make_model: MakeModel, make_batch: MakeBatch) -> None:
    """Three action tokens or twelve, at the same weights of all that is shared."""
    batch = make_batch()
    step, joint = scaled(make_model(head=HEADS["step"])), make_model(head=HEADS["joint"])
    shared = {name: value for name, value in step.state_dict().items() if not name.startswith("head.")}
    assert set(joint.load_state_dict(shared, strict=False).missing_keys) == {
        "head.step_position",
        "head.joint_position",
    }
    for name in ("grounding", "pointing"):
        # All tokens are read in one pass, whose sums have another order where there are more of them.
        torch.testing.assert_close(_pull(step, batch, name), _pull(joint, batch, name), atol=1e-5, rtol=1e-4)


def test_a_mean_over_all_tokens_together_would_be_noticed(
    make_model: MakeModel, make_batch: MakeBatch, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual mistake: every token weighs the same, so a modality drowns in another's."""
    model, batch = scaled(make_model(head=HEADS["tokens"])), make_batch()
    terms = type(model).terms

    def drowned(self: Model, inputs: Any, targets: Any) -> tuple[Mapping[str, Tensor], Any]:
        found, metrics = terms(self, inputs, targets)
        counts = {"action": targets.valid.sum(), **{n: s.isfinite().sum() for n, s in targets.signals.items()}}
        return {n: term * counts[n] / sum(counts.values()) for n, term in found.items()}, metrics

    fewer = _fewer_actions(batch, change)
    assert _same(_pull(model, batch, "grounding"), _pull(model, fewer, "grounding"))
    monkeypatch.setattr(type(model), "terms", drowned)
    assert not _same(_pull(model, batch, "grounding"), _pull(model, fewer, "grounding"))


def test_the_loss_is_their_sum_by_weight(make_model: MakeModel, make_batch: MakeBatch) -> None:
    batch = make_batch()
    once, twice = (scaled(make_model(auxiliaries={"where": GroundingConfig(weight=weight)})) for weight in (1.0, 2.0))
    (one, _), (other, _) = (model.terms(batch.inputs, batch.targets) for model in (once, twice))
    assert set(one) == {"action", "where"}
    torch.testing.assert_close(other["where"], 2 * one["where"])
    torch.testing.assert_close(twice.loss(batch.inputs, batch.targets)[0], other["action"] + other["where"])
    assert torch.equal(one["action"], other["action"])


def test_a_kind_of_one_loss_has_one_term(make_batch: MakeBatch, interface: Any) -> None:
    from vla.models.kinds.baselines import ActConfig

    model = ActConfig(horizon=3, width=16, encoder_layers=1, channels=(4, 8), style=4).build(interface, {})
    batch = make_batch()
    torch.manual_seed(0)
    terms, _ = model.terms(batch.inputs, batch.targets)
    torch.manual_seed(0)
    assert list(terms) == ["action"]
    assert torch.equal(terms["action"], model.loss(batch.inputs, batch.targets)[0])
    assert len(model.shared()) == len(list(model.parameters()))


def test_the_name_of_the_heads_loss_is_taken() -> None:
    with pytest.raises(ConfigError, match=r"model.auxiliaries.action: so another loss is called"):
        UnifiedConfig(auxiliaries={"action": GroundingConfig()})


def test_what_is_shared_is_all_but_the_parts_own(make_model: MakeModel) -> None:
    model = make_model(head=HEADS["flow"])
    names = {id(p): name for name, p in model.named_parameters()}
    left = set(names) - {id(p) for p in model.shared()}
    assert {names[number].split(".")[0] for number in left} == {"head", "auxiliaries"}
    assert {names[id(p)].split(".")[0] for p in model.shared()} == {"readers", "table", "trunk"}
    model.get_parameter("table.weight").requires_grad_(False)
    assert len(model.shared()) == len(names) - len(left) - 1
