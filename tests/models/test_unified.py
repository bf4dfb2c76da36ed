"""The unified transformer with every head: cached and uncached, padded and not, with one robot and with several."""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest
import torch
from torch import Tensor

from tests.models.learning import learn, scaled
from tests.models.reading import read_as
from vla.models.auxiliaries.config import GroundingConfig, PointingConfig
from vla.models.codecs.bins import Bins
from vla.models.codecs.config import BinsConfig
from vla.models.heads.bins import BinsHead
from vla.models.heads.config import BinsHeadConfig, FlowHeadConfig, HeadConfig, TokensHeadConfig
from vla.models.heads.tokens import TokensHead
from vla.models.text.words import WordTokenizer
from vla.models.trunk.inputs import Batch
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Reading, Segment
from vla.models.trunk.soft_bins import SoftBins
from vla.models.unified import UnifiedTransformer

HEADS: dict[str, HeadConfig] = {
    "step": BinsHeadConfig(bins=16),
    "joint": BinsHeadConfig(bins=16, layout="joint"),
    "tokens": TokensHeadConfig(codec=BinsConfig(bins=16)),
}
MakeModel = Callable[..., UnifiedTransformer]
MakeBatch = Callable[..., Batch]
Change = Callable[..., Batch]
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())


@pytest.fixture
def several(interface: Interface) -> Interface:
    """Three robots, seen twice."""
    return replace(interface, history=2, embodiments=3)


@torch.no_grad()
def _logits(model: UnifiedTransformer, batch: Batch) -> Tensor:
    """What training computes at the action positions, read in one pass without a cache."""
    segments, _ = model._read_inputs(batch.inputs)
    segments["action"] = _action(model, batch)
    hidden = Reading(model.trunk, segments).hidden
    if isinstance(model.head, TokensHead):
        ids, _ = model.head.codec.encode(batch.targets.actions, batch.targets.valid)
        return model.head._logits(hidden["action"], model.head.codec.grammar(ids), model.table)
    return cast(BinsHead, model.head)._logits(hidden["action"], model.table)


def _action(model: UnifiedTransformer, batch: Batch) -> Segment:
    """The action tokens of training."""
    if isinstance(model.head, TokensHead):
        ids, _ = model.head.codec.encode(batch.targets.actions, batch.targets.valid)
        return model.head._teach(ids, model.table)
    return cast(BinsHead, model.head)._queries(batch.inputs, model.table)


def _change_of(before: Tensor, after: Tensor) -> Tensor:
    """How far the logits of each sample went; what the grammar forbids is the same on both sides."""
    return torch.where(before.isfinite(), before - after, 0.0).abs().flatten(1).amax(dim=1)


def _cells(model: UnifiedTransformer) -> SoftBins:
    """The bins between whose limits actions are."""
    return model.head.codec.cells if isinstance(model.head, TokensHead) else cast(BinsHead, model.head).cells  # type: ignore[return-value]


@every_head
def test_overfits_one_batch(head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = make_model(head=head), make_batch(size=4)
    first, *_, last = learn(model, batch, steps=25, lr=1e-2)
    assert last["action_loss"] < 0.75 * first["action_loss"]
    assert {"action_loss", "grounding_loss", "grounding_error", "pointing_loss"} == set(last)


@every_head
def test_every_weight_learns(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch, several: Interface
) -> None:
    model = scaled(make_model(head=head, interface=several, dropout=0.5), 0.2)
    torch.manual_seed(0)
    batch = make_batch(size=16, interface=several)
    model.loss(batch.inputs, batch.targets)[0].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()] == []
    rows = {name: p.grad for name, p in model.named_parameters() if name.rsplit(".", 1)[1] in ("time", "embodiment")}
    assert {name: len(g) for name, g in rows.items() if g is not None} == {
        "readers.images.time": 2,
        "readers.state.time": 2,
        "readers.state.embodiment": 3,
    }
    assert all(g is not None and g.abs().amax(dim=1).min() > 0 for g in rows.values())  # of each moment and robot


@every_head
@pytest.mark.parametrize("scale", [0.02, 0.3, 3.0])
def test_any_weights_write_a_valid_chunk(
    head: HeadConfig, scale: float, make_model: MakeModel, make_batch: MakeBatch
) -> None:
    model, batch = scaled(make_model(head=head), scale), make_batch()
    prediction, cells = model.act(batch.inputs), _cells(model)
    assert prediction.actions.shape == (7, 3, 4)
    assert (prediction.actions >= cells.low).all()
    assert (prediction.actions <= cells.high).all()
    assert set(prediction.signals) == {"grounding", "pointing"}
    assert all((signal.abs() <= 1).all() for signal in prediction.signals.values())


@pytest.mark.parametrize("layout", ["step", "joint"])
def test_decoding_in_one_pass_equals_training(layout: str, make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = scaled(make_model(head=HEADS[layout]), 0.2), make_batch()
    taught = _cells(model).decode(_logits(model, batch))
    torch.testing.assert_close(model.act(batch.inputs).actions, taught, atol=1e-4, rtol=1e-4)


def test_decoding_token_by_token_equals_training(make_model: MakeModel, make_batch: MakeBatch, change: Change) -> None:
    """Taught what it sampled, the model would sample it again."""
    model, batch = scaled(make_model(head=HEADS["tokens"]), 0.2), make_batch()
    head = cast(TokensHead, model.head)
    actions = model.act(batch.inputs).actions
    sampled, _ = head.codec.encode(actions, batch.targets.valid)
    assert torch.equal(head.codec.decode(sampled), actions)
    logits = _logits(model, change(batch, actions=actions))
    assert torch.equal(logits.argmax(dim=-1), sampled)
    assert len(sampled.unique(dim=0)) > 1


@torch.no_grad()
@every_head
def test_reading_piece_by_piece_equals_reading_at_once(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch
) -> None:
    model, batch = scaled(make_model(head=head), 0.2), make_batch()
    segments, _ = model._read_inputs(batch.inputs)
    action = _action(model, batch)
    whole = Reading(model.trunk, segments | {"action": action}).hidden
    prefix = Reading(model.trunk, segments)
    pieces = prefix.hidden
    last, _ = prefix.extend(model.trunk, action)
    for name, hidden in (pieces | {"action": last}).items():
        torch.testing.assert_close(hidden, whole[name], atol=1e-5, rtol=1e-5)


def test_autoregressive_logits_never_see_their_own_label(
    make_model: MakeModel, make_batch: MakeBatch, change: Change
) -> None:
    model, batch = scaled(make_model(head=HEADS["tokens"]), 0.2), make_batch(size=1)
    low, high = _cells(model).low[None], _cells(model).high[None]
    before = _logits(model, change(batch, actions=low))
    for label in range(12):
        other = low.flatten(1).clone()
        other[0, label] = high.flatten()[label]
        after = _logits(model, change(batch, actions=other.view(1, 3, 4)))
        assert torch.equal(before[:, : label + 1], after[:, : label + 1])
        if label < 11:
            assert not torch.equal(before, after)


@pytest.mark.parametrize("layout", ["step", "joint"])
def test_parallel_logits_see_no_label(
    layout: str, make_model: MakeModel, make_batch: MakeBatch, change: Change
) -> None:
    model, batch = scaled(make_model(head=HEADS[layout]), 0.2), make_batch()
    assert torch.equal(_logits(model, batch), _logits(model, change(batch, actions=-batch.targets.actions)))


@every_head
def test_padding_is_invisible(head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch, change: Change) -> None:
    model, batch = scaled(make_model(head=head), 0.2), make_batch()
    other = change(batch, text=torch.where(batch.inputs.text_valid, batch.inputs.text, 17))
    assert not torch.equal(other.inputs.text, batch.inputs.text)
    torch.testing.assert_close(_logits(model, other), _logits(model, batch), atol=1e-5, rtol=1e-5)


@every_head
def test_samples_of_a_batch_are_independent(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch, several: Interface
) -> None:
    model, batch = scaled(make_model(head=head, interface=several), 0.2), make_batch(interface=several)
    alone = torch.cat([_logits(model, batch[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(_logits(model, batch), alone, atol=1e-4, rtol=1e-4)
    each = torch.cat([model.act(batch[i : i + 1].inputs).actions for i in range(7)])
    torch.testing.assert_close(model.act(batch.inputs).actions, each, atol=1e-4, rtol=1e-4)


@every_head
@pytest.mark.parametrize("name", ["images", "state", "text", "embodiment"])
def test_every_input_is_read(
    head: HeadConfig, name: str, make_model: MakeModel, make_batch: MakeBatch, change: Change, several: Interface
) -> None:
    model, batch = scaled(make_model(head=head, interface=several), 0.2), make_batch(interface=several)
    batch = change(batch, text_valid=torch.ones_like(batch.inputs.text_valid))
    other = getattr(make_batch(seed=1, interface=several).inputs, name)
    if name == "embodiment":
        other = (batch.inputs.embodiment + 1) % 3
    before, after = _logits(model, batch), _logits(model, change(batch, **{name: other}))
    assert (_change_of(before, after) > 1e-4).all()


def test_each_camera_and_each_moment_is_read(
    make_model: MakeModel, make_batch: MakeBatch, change: Change, several: Interface
) -> None:
    model, batch = scaled(make_model(interface=several), 0.2), make_batch(interface=several)
    for moment in range(2):
        for camera in range(2):
            images = batch.inputs.images.clone()
            images[:, moment, camera] = 255 - images[:, moment, camera]
            assert (_change_of(_logits(model, batch), _logits(model, change(batch, images=images))) > 1e-4).all()
        state = batch.inputs.state.clone()
        state[:, moment] += 0.5
        assert (_change_of(_logits(model, batch), _logits(model, change(batch, state=state))) > 1e-4).all()


@every_head
def test_a_camera_that_is_not_there_is_not_seen(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch, change: Change
) -> None:
    model, batch = scaled(make_model(head=head), 0.2), make_batch()
    lacking = change(batch, camera_valid=torch.tensor([[True, False]]).expand(7, 2))
    images = batch.inputs.images.clone()
    images[:, :, 1] = 255 - images[:, :, 1]
    other = change(lacking, images=images)
    torch.testing.assert_close(_logits(model, other), _logits(model, lacking), atol=1e-5, rtol=1e-5)
    assert (_change_of(_logits(model, batch), _logits(model, lacking)) > 1e-4).all()


@every_head
def test_a_moment_before_the_episode_is_not_seen(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch, change: Change, several: Interface
) -> None:
    model, batch = scaled(make_model(head=head, interface=several), 0.2), make_batch(interface=several)
    begun = change(batch, observed=torch.tensor([[False, True]]).expand(7, 2))
    images, state = batch.inputs.images.clone(), batch.inputs.state.clone()
    images[:, 0], state[:, 0] = 255 - images[:, 0], state[:, 0] + 0.5
    other = change(begun, images=images, state=state)
    torch.testing.assert_close(_logits(model, other), _logits(model, begun), atol=1e-5, rtol=1e-5)
    assert (_change_of(_logits(model, batch), _logits(model, begun)) > 1e-4).all()


@torch.no_grad()
def test_dropped_state_is_not_seen(make_model: MakeModel, make_batch: MakeBatch, change: Change) -> None:
    batch = make_batch()
    other = change(batch, state=batch.inputs.state + 0.5)
    dropped, kept = (scaled(make_model(dropout=p), 0.2) for p in (1.0, 0.0))
    assert torch.equal(dropped(batch.inputs, batch.targets)[0], dropped(other.inputs, other.targets)[0])
    assert not torch.equal(kept(batch.inputs, batch.targets)[0], kept(other.inputs, other.targets)[0])


@pytest.mark.parametrize("training", [True, False])
def test_acting_never_drops_the_state(
    training: bool, make_model: MakeModel, make_batch: MakeBatch, change: Change
) -> None:
    model, batch = scaled(make_model(dropout=1.0), 0.2).train(training), make_batch()
    other = change(batch, state=batch.inputs.state + 0.5)
    first, second, third = (model.act(inputs).actions for inputs in (batch.inputs, batch.inputs, other.inputs))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert model.training == training
    assert not first.requires_grad


@every_head
def test_what_is_not_valid_teaches_nothing(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch, change: Change
) -> None:
    """Neither steps past the end nor dimensions that a robot lacks: no gradient of the loss sees their labels."""
    model, batch = make_model(head=head), make_batch()
    valid = torch.ones_like(batch.targets.valid)
    valid[:, 2:], valid[:, :, 3] = False, False
    actions = torch.where(valid, batch.targets.actions, -batch.targets.actions)
    hidden = torch.randn(7, 3 if head == HEADS["step"] else 12, 24, generator=torch.Generator().manual_seed(0))
    losses = []
    for labels in (batch.targets.actions, actions):
        targets = change(batch, valid=valid, actions=labels).targets
        losses.append(model.head.loss(model.trunk, read_as(hidden), batch.inputs, targets, model.table)[0])
    assert torch.equal(*losses)
    nothing = change(batch, valid=torch.zeros_like(valid))
    loss, metrics = model.loss(nothing.inputs, nothing.targets)
    assert torch.isfinite(loss)
    assert metrics["action_loss"].isnan()  # of nothing there is no mean, and logs leave it out


@pytest.mark.parametrize("layout", ["step", "joint"])
def test_steps_beyond_the_episode_change_no_loss(
    layout: str, make_model: MakeModel, make_batch: MakeBatch, change: Change
) -> None:
    model, batch = make_model(head=HEADS[layout]), make_batch()
    valid = torch.ones_like(batch.targets.valid)
    valid[:, 1:] = False
    actions = torch.where(valid, batch.targets.actions, batch.targets.actions + 0.3)
    ours, theirs = change(batch, valid=valid), change(batch, valid=valid, actions=actions)
    with torch.no_grad():
        assert torch.equal(model.loss(ours.inputs, ours.targets)[0], model.loss(theirs.inputs, theirs.targets)[0])


@every_head
def test_a_blank_instruction_is_finite(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch, change: Change
) -> None:
    model, batch = scaled(make_model(head=head), 0.2), make_batch(size=1)
    tokenizer = WordTokenizer.fit(["put the red block on the blue plate"])
    ids, valid = map(torch.from_numpy, tokenizer.encode([""], 6))
    assert not valid.any()
    blank = change(batch, text=ids, text_valid=valid)
    loss, _ = model.loss(blank.inputs, blank.targets)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert torch.isfinite(model.act(blank.inputs).actions).all()


@torch.no_grad()
@every_head
def test_grounding_does_not_look_at_actions(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch, change: Change
) -> None:
    model, batch = scaled(make_model(head=head), 0.2), make_batch()
    other = change(batch, actions=-batch.targets.actions)
    first, second = (model.loss(b.inputs, b.targets)[1]["grounding_loss"] for b in (batch, other))
    torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-6)


@every_head
def test_without_its_signal_an_auxiliary_is_left_out(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch, interface: Interface
) -> None:
    """No switch is needed: the model is that without auxiliaries, weight by weight."""
    silent = replace(interface, signals={})
    model, batch = make_model(head=head, interface=silent), make_batch(interface=silent)
    _, metrics = model.loss(batch.inputs, batch.targets)
    assert set(metrics) == {"action_loss"}
    assert model.act(batch.inputs).signals == {}
    bare = make_model(head=head, interface=silent, auxiliaries={})
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in bare.state_dict().items()}
    points = {"pointing": interface.signals["pointing"]}
    assert set(make_model(interface=replace(interface, signals=points)).auxiliaries) == {"pointing"}


def test_an_auxiliary_of_no_weight_is_left_out(make_model: MakeModel) -> None:
    model = make_model(auxiliaries={"grounding": GroundingConfig(weight=0.0), "pointing": PointingConfig()})
    assert set(model.auxiliaries) == {"pointing"}
    assert "grounding" not in model.table.vocabulary


def test_the_loss_is_the_weighted_sum(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = make_model(auxiliaries={"grounding": GroundingConfig(weight=0.5)}), make_batch()
    loss, metrics = model.loss(batch.inputs, batch.targets)
    torch.testing.assert_close(loss.detach(), metrics["action_loss"] + 0.5 * metrics["grounding_loss"])


def test_signals_that_are_not_known_teach_nothing(make_model: MakeModel, make_batch: MakeBatch, change: Change) -> None:
    model, batch = scaled(make_model(), 0.2), make_batch()
    half = {name: signal.clone() for name, signal in batch.targets.signals.items()}
    for signal in half.values():
        signal[3:] = torch.nan
    with torch.no_grad():
        some = model.loss(batch.inputs, change(batch, signals=half).targets)[1]
        alone = model.loss(batch[:3].inputs, batch[:3].targets)[1]
    for name in ("grounding_loss", "grounding_error", "pointing_loss"):
        torch.testing.assert_close(some[name], alone[name], atol=1e-4, rtol=1e-4)
    nothing = {name: torch.full_like(signal, torch.nan) for name, signal in half.items()}
    loss, metrics = model.loss(batch.inputs, change(batch, signals=nothing).targets)
    torch.testing.assert_close(loss.detach(), metrics["action_loss"])
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
@every_head
def test_a_prefix_can_be_read_from_twice(head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = scaled(make_model(head=head), 0.2), make_batch()
    segments, _ = model._read_inputs(batch.inputs)
    prefix = Reading(model.trunk, segments)
    first = model.head.sample(model.trunk, prefix, batch.inputs, model.table)
    again = model.head.sample(model.trunk, prefix, batch.inputs, model.table)
    torch.testing.assert_close(again, first, atol=1e-5, rtol=1e-5)  # of one pass, then of a cache


@torch.no_grad()
@every_head
def test_bfloat16_stays_close(head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = make_model(head=head), make_batch()
    exact, _ = model.loss(batch.inputs, batch.targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, _ = model.loss(batch.inputs, batch.targets)
        prediction = model.act(batch.inputs)
    assert not torch.equal(rough, exact)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, atol=0, rtol=0.02)
    assert torch.isfinite(prediction.actions).all()


@pytest.mark.gpu
@every_head
def test_gpu_equals_cpu(head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = scaled(make_model(head=head), 0.2), make_batch()
    here = _logits(model, batch)
    there = _logits(model.cuda(), batch.to(torch.device("cuda")))
    torch.testing.assert_close(there.cpu(), here, atol=1e-3, rtol=1e-3)


def test_matrices_are_those_of_transformer_blocks(make_model: MakeModel) -> None:
    model = make_model()
    names = {name.rsplit(".", 2)[-2] for name in model.matrices()}
    assert names == {"qkv", "out", "up", "down"}
    assert {name.split(".blocks.")[0] for name in model.matrices()} == {"trunk", "readers.text.transformer"}
    assert model.blocks() == list(model.trunk.blocks)


def test_the_blocks_of_a_heads_expert_come_behind_the_trunks(make_model: MakeModel) -> None:
    """Of the teacher too, if it has any: whatever is sharded or recomputed by blocks leaves none out."""
    model = make_model(head=FlowHeadConfig(width=8, teacher=FlowHeadConfig(width=4)))
    expected = [f"trunk.blocks.{i}" for i in range(2)]
    expected += [f"head.{part}.blocks.{i}" for part in ("expert", "teacher.expert") for i in range(2)]
    names = {module: name for name, module in model.named_modules()}
    assert [names[block] for block in model.blocks()] == expected
    matrices = {name.rsplit(".", 2)[0] for name in model.matrices()} - {"readers.text.transformer.blocks.0"}
    assert matrices == set(expected)


def test_limits_travel_in_the_contract_and_not_in_the_weights(make_model: MakeModel) -> None:
    assert not [name for name in make_model().state_dict() if name.endswith((".low", ".high"))]
    model = make_model(head=HEADS["tokens"])
    assert isinstance(cast(TokensHead, model.head).codec, Bins)


def test_acting_keeps_no_versions(make_model: MakeModel, make_batch: MakeBatch) -> None:
    """Inference mode: in small models a sixth of the time of a loop."""
    answer = make_model().act(make_batch().inputs)
    assert all(tensor.is_inference() for tensor in answer.tensors())
