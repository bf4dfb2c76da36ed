"""At zero nothing is added, merged is the same model, and whoever reads a matrix himself sees the merged one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.learning import scaled
from tests.models.test_grafting import FAMILIES, _logits, _theirs
from vla.core.errors import UnknownNameError
from vla.models import lora
from vla.models.codecs.config import BinsConfig
from vla.models.grafting import from_hf
from vla.models.heads.config import BinsHeadConfig, FlowHeadConfig, HeadConfig, TokensHeadConfig
from vla.models.kinds.baselines import ActConfig
from vla.models.lora import LoraLinear, adapt, is_factor, merged
from vla.models.model import Model
from vla.models.trunk.inputs import Batch
from vla.models.trunk.interface import Interface

MakeModel = Callable[..., Model]
MakeBatch = Callable[..., Batch]
HEADS: dict[str, HeadConfig] = {
    "step": BinsHeadConfig(bins=8),
    "tokens": TokensHeadConfig(codec=BinsConfig(bins=8)),  # one token after the other, on a line of matrices
    "flow": FlowHeadConfig(steps=2),
}
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())


@torch.no_grad()
def _move(model: nn.Module) -> None:
    """What training would do to A and B."""
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if is_factor(name):
            parameter.normal_(std=0.3)


@torch.no_grad()
def _loss(model: Model, batch: Batch) -> Tensor:
    torch.manual_seed(2)
    return model.loss(batch.inputs, batch.targets)[0]


@every_head
def test_at_zero_it_is_the_model_without_it_bit_for_bit(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch
) -> None:
    model, batch = scaled(make_model(head=head)).eval(), make_batch()
    answer, loss = model.act(batch.inputs).actions, _loss(model, batch)
    factors = adapt(model, ["*"], rank=3, alpha=6.0)
    assert len(factors) == 2 * sum(isinstance(part, LoraLinear) for part in model.modules()) > 20
    assert torch.equal(model.act(batch.inputs).actions, answer)
    assert torch.equal(_loss(model, batch), loss)
    _move(model)
    assert (_loss(model, batch) - loss).abs() > 1e-2


@every_head
def test_merged_it_is_the_same_model(head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch) -> None:
    """With and without gradients: also where the acting model multiplies by the matrices itself."""
    model, batch = scaled(make_model(head=head)).eval(), make_batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapt(model, ["trunk.*", "readers.*", *(["head.*"] if head.kind == "flow" else [])], rank=3, alpha=6.0)
    _move(model)
    plain = make_model(head=head).eval()
    plain.load_state_dict(merged(model.state_dict(), 6.0))
    changed = {name for name, value in plain.state_dict().items() if not torch.equal(value, before[name])}
    assert "trunk.blocks.1.qkv.weight" in changed
    assert all(name.endswith(".weight") for name in changed)
    for answer in (plain.act, plain.predict):
        ours = getattr(model, answer.__name__)(batch.inputs).actions
        torch.testing.assert_close(ours, answer(batch.inputs).actions, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(_loss(model, batch), _loss(plain, batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_grafted_trunk_is_adapted(family: str) -> None:
    """At zero it is transformers' model still; then only A and B learn, and merged is what they made of it."""
    theirs = _theirs(family)
    trunk, table = from_hf(theirs)
    plain = _logits(trunk, table)
    factors = adapt(trunk, ["blocks.*.qkv.weight", "blocks.1.*"], rank=2, alpha=4.0)
    assert {name.split(".")[2] for name in factors if name.startswith("blocks.0.")} == {"qkv"}
    assert {name.split(".")[2] for name in factors if name.startswith("blocks.1.")} == {
        "qkv",
        "out",
        "up",
        "gate",
        "down",
    }
    assert torch.equal(_logits(trunk, table), plain)
    _move(trunk)
    moved = _logits(trunk, table)
    assert (moved - plain).abs().max() > 1e-2
    fresh, _ = from_hf(theirs)
    fresh.load_state_dict(merged(trunk.state_dict(), 4.0))
    torch.testing.assert_close(_logits(fresh, table), moved, atol=1e-5, rtol=1e-5)


def test_layers_of_pytorch_that_read_matrices_themselves_see_what_is_added(
    interface: Interface, make_batch: MakeBatch
) -> None:
    """Its attention never calls its last layer, and its encoders leave theirs out where nobody wants a gradient."""
    torch.manual_seed(0)
    config = ActConfig(width=16, encoder_layers=1, heads=2, channels=(4, 4), horizon=3, execute=1)
    model, batch = scaled(config.build(interface, {})).eval(), make_batch()
    before = model.act(batch.inputs).actions
    adapt(model, ["encoder.*"], rank=2, alpha=4.0)
    assert isinstance(model.get_submodule("encoder.layers.0.self_attn.out_proj"), LoraLinear)
    assert isinstance(model.get_submodule("encoder.layers.0.linear1"), LoraLinear)
    assert torch.equal(model.act(batch.inputs).actions, before)
    _move(model)
    plain = config.build(interface, {}).eval()
    plain.load_state_dict(merged(model.state_dict(), 4.0))
    ours = model.act(batch.inputs).actions
    assert (ours - before).abs().max() > 1e-3
    torch.testing.assert_close(ours, plain.act(batch.inputs).actions, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.predict(batch.inputs).actions, ours, atol=1e-5, rtol=1e-5)


def test_what_is_added_is_weighted_by_alpha_over_rank() -> None:
    layer = nn.Linear(4, 3)
    adapted = LoraLinear(layer, 2, 8.0)
    _move(adapted)
    x = torch.randn(5, 4)
    expected = layer(x) + 4.0 * x @ adapted.lora_a.T @ adapted.lora_b.T
    torch.testing.assert_close(adapted(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(nn.functional.linear(x, adapted.weight, adapted.bias), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mistake", ["scale", "transposed", "only the forward", "only the matrix"])
def test_a_mistake_is_noticed(
    mistake: str, make_model: MakeModel, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mistake == "scale":
        monkeypatch.setattr(lora, "merged", lambda weights, alpha, whole=merged: whole(weights, alpha / 2))
    if mistake == "transposed":
        monkeypatch.setattr(
            lora, "merged", lambda weights, alpha: {
                name: value + 1e-2 * value.flip(0) if name.endswith("out.weight") else value
                for name, value in merged(weights, alpha).items()
            },
        )  # fmt: skip
    if mistake == "only the forward":
        monkeypatch.setattr(LoraLinear, "weight", property(lambda self: self.base))
    if mistake == "only the matrix":
        monkeypatch.setattr(LoraLinear, "forward", lambda self, x: nn.functional.linear(x, self.base, self.bias))
    model, batch = scaled(make_model(head=HEADS["tokens"]), 0.4).eval(), make_batch()
    adapt(model, ["trunk.*"], rank=3, alpha=6.0)
    _move(model)
    plain = make_model(head=HEADS["tokens"]).eval()
    plain.load_state_dict(lora.merged(model.state_dict(), 6.0))
    apart: Any = [(_loss(model, batch) - _loss(plain, batch)).abs().item()]
    apart += [(model.act(batch.inputs).actions - plain.act(batch.inputs).actions).abs().max().item()]
    assert max(apart) > 1e-4


def test_a_pattern_that_fits_no_linear_layer_is_answered_with_what_is_near(make_model: MakeModel) -> None:
    model = make_model()
    with pytest.raises(UnknownNameError, match=r"lora\.targets 'trnk\.\*' fits no linear layer.*did you mean trunk"):
        adapt(model, ["trunk.*", "trnk.*"], rank=1, alpha=1.0)
    with pytest.raises(UnknownNameError, match=r"'table\.\*' fits no linear layer"):
        adapt(model, ["table.*"], rank=1, alpha=1.0)
    assert not any(isinstance(part, LoraLinear) for part in model.modules()), "a mistake leaves the model as it was"


def test_names_that_only_look_like_factors_stay() -> None:
    weights = {"shop.base": torch.ones(2), "trunk.weight": torch.ones(2)}
    assert merged(weights, 1.0).keys() == weights.keys()
