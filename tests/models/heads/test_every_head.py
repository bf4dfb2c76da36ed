"""What every head of the table does: a new one is tested by having a line there.

Each is built with its defaults in a model of a few thousand weights, with and without committed steps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.learning import scaled
from tests.models.reading import uncached
from vla.core.config import from_dict, to_dict
from vla.models.heads.config import (
    HEADS,
    FlowHeadConfig,
    HeadConfig,
    TokensHeadConfig,
)
from vla.models.kinds.unified import UnifiedConfig
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.inputs import Batch, Committed, Inputs
from vla.models.trunk.sequence import Reading
from vla.models.unified import UnifiedTransformer

MakeModel = Callable[..., UnifiedTransformer]
MakeBatch = Callable[..., Batch]
Change = Callable[..., Batch]
CASES: dict[str, HeadConfig] = {
    **{name: config() for name, config in HEADS.items()},  # type: ignore[call-arg]
    "flow, insulated": FlowHeadConfig(state=True, insulate=True, teacher=TokensHeadConfig()),
}
MODERN: dict[str, Any] = {"rope": 1e4, "gated": True, "activation": "silu", "qk_norm": True, "kv_heads": 1}
MOST = 2
"""Steps that may be committed, of three."""
every_head = pytest.mark.parametrize("head", CASES.values(), ids=CASES.keys())
either = pytest.mark.parametrize("committed", [0, MOST], ids=["", "committed"])


def _scaled(model: UnifiedTransformer, scale: float = 0.2) -> UnifiedTransformer:
    return scaled(model, scale).eval()


@contextmanager
def _drawn(seed: int = 0) -> Iterator[None]:
    """What training draws is the same in each of these blocks."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _loss(model: UnifiedTransformer, batch: Batch, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    with _drawn(seed):
        return model.loss(batch.inputs, batch.targets)


def _committing(batch: Batch, steps: int) -> Inputs:
    """The inputs, with that many steps of the labels decided."""
    count = torch.full((len(batch),), steps)
    return replace(batch.inputs, committed=Committed(actions=batch.targets.actions, steps=count))


@every_head
def test_overfits_one_batch(head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch) -> None:
    """The trunk, the table and the head do; readers are left as they are, which is quicker."""
    model, batch = make_model(head=head), make_batch(size=4)
    with torch.no_grad():
        segments, _ = model._read_inputs(batch.inputs)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    with _drawn():
        for _ in range(20):
            optimiser.zero_grad()
            prefix = Reading(model.trunk, segments)
            loss, metrics = model.head.loss(model.trunk, prefix, batch.inputs, batch.targets, model.table)
            loss.backward()
            optimiser.step()
            losses.append(metrics["action_loss"].item())
    assert sum(losses[-4:]) < 0.75 * sum(losses[:4])


@every_head
def test_acts_the_same_again_and_whatever_else_is_in_the_batch(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch
) -> None:
    inputs = replace(make_batch(size=3).inputs, seeds=torch.tensor([5, 0, 5]))
    model = _scaled(make_model(head=head))
    together = model.act(inputs).actions
    torch.rand(5)  # nothing rests upon what was drawn before
    assert torch.equal(model.act(inputs).actions, together)
    assert together.shape == (3, 3, 4)
    assert together.isfinite().all()
    alone = torch.cat([model.act(inputs[i : i + 1]).actions for i in range(3)])
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)


@every_head
def test_every_weight_learns(head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = _scaled(make_model(head=head, committed=MOST)).train(), make_batch(size=16)
    _loss(model, batch)[0].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()] == []


@torch.no_grad()
@every_head
@either
def test_what_is_not_valid_teaches_nothing(
    head: HeadConfig, committed: int, make_model: MakeModel, make_batch: MakeBatch, change: Change
) -> None:
    """Labels past the end of an episode: neither to be written, nor to be read as a part of the chunk."""
    model, batch = make_model(head=head, committed=committed), make_batch(size=3)
    valid = torch.ones_like(batch.targets.valid)
    valid[:, 1:] = False
    actions = torch.where(valid, batch.targets.actions, 0.3 - batch.targets.actions)
    ours, theirs = (change(batch, valid=valid, actions=a) for a in (batch.targets.actions, actions))
    assert torch.equal(_loss(model, ours)[0], _loss(model, theirs)[0])
    all_valid = change(batch, actions=actions)
    assert not torch.equal(_loss(model, all_valid)[0], _loss(model, batch)[0])  # elsewhere these labels would count
    loss, metrics = _loss(model, change(batch, valid=torch.zeros_like(valid)))
    assert loss.isfinite()
    assert metrics["action_loss"].isnan()  # of nothing there is no mean, and logs leave it out


@torch.no_grad()
@every_head
def test_the_cache_changes_nothing(head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch) -> None:
    """In training and in acting: behind a prefix whose every token is read again with each extension."""
    model, batch = _scaled(make_model(head=head)), make_batch(size=2)
    inputs, targets = batch.inputs, batch.targets
    segments, _ = model._read_inputs(inputs)
    cached = Reading(model.trunk, segments)
    _, anew = uncached(model.trunk, list(segments.values()))
    losses, chunks = [], []
    for prefix in (cached, anew):
        with _drawn():
            losses.append(model.head.loss(model.trunk, prefix, inputs, targets, model.table)[0])
        chunks.append(model.head.sample(model.trunk, prefix, inputs, model.table))
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(chunks[0], chunks[1], atol=1e-5, rtol=1e-5)


@every_head
def test_on_a_modern_trunk_either_cache_gives_the_same(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch
) -> None:
    """With rotary positions, shared keys and a gate; with gradients the cache grows, without them it is static."""
    trunk = TransformerConfig(width=24, layers=2, heads=3, **MODERN)
    model, batch = _scaled(make_model(head=head, committed=MOST, trunk=trunk)), make_batch(size=2)
    for inputs in (batch.inputs, _committing(batch, 1)):
        fixed, growing = model.act(inputs).actions, model.predict(inputs).actions
        torch.testing.assert_close(fixed, growing, atol=1e-5, rtol=1e-5)
    assert len(fixed.unique(dim=0)) == 2


@every_head
def test_a_prefix_is_left_as_it_was(head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = _scaled(make_model(head=head)), make_batch(size=2)
    segments, _ = model._read_inputs(batch.inputs)
    with torch.no_grad():
        prefix = Reading(model.trunk, segments)
        first = model.head.sample(model.trunk, prefix, batch.inputs, model.table)
        model.head.loss(model.trunk, prefix, batch.inputs, batch.targets, model.table)
        again = model.head.sample(model.trunk, prefix, batch.inputs, model.table)
    # At first the inputs and what follows are read in one pass, which rounds otherwise on some processors.
    torch.testing.assert_close(again, first, atol=1e-5, rtol=1e-5)


@every_head
def test_the_configuration_and_the_weights_are_the_head(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch
) -> None:
    """Built again from JSON, filled with the weights, it answers the same."""
    model, batch = _scaled(make_model(head=head, committed=MOST)), make_batch(size=2)
    config = from_dict(UnifiedConfig, to_dict(model.config), where="test")
    assert config == model.config
    torch.manual_seed(0)  # as `make_model` does
    again = config.build(model.interface, config.fit(torch.rand(200, 3, 4) * 2 - 1)).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.act(batch.inputs).actions, model.act(batch.inputs).actions)


@every_head
def test_committed_steps_are_answered_as_they_were_given(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch
) -> None:
    model, batch = _scaled(make_model(head=head, committed=MOST), 0.1), make_batch(size=3)
    nothing = model.act(_committing(batch, 0)).actions
    torch.testing.assert_close(nothing, model.act(batch.inputs).actions, atol=1e-5, rtol=1e-5)
    for steps in (1, 2):
        answer = model.act(_committing(batch, steps)).actions
        assert torch.equal(answer[:, :steps], batch.targets.actions[:, :steps])
        assert not torch.equal(answer[:, steps], batch.targets.actions[:, steps])


@torch.no_grad()
@every_head
def test_only_what_is_committed_is_read(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch, change: Change
) -> None:
    """Neither in acting nor in training do later steps of the labels reach the model that way."""
    model, batch = _scaled(make_model(head=head, committed=MOST)), make_batch(size=3)
    later = batch.targets.actions.clone()
    later[:, 1:] *= -1
    inputs, other = _committing(batch, 1), _committing(change(batch, actions=later), 1)
    assert torch.equal(model.act(inputs).actions, model.act(other).actions)
    earlier = batch.targets.actions.clone()
    earlier[:, 0] *= -1
    losses = [_loss(model, Batch(inputs=i, targets=batch.targets))[0] for i in (inputs, other)]
    assert torch.equal(*losses)
    changed = _committing(change(batch, actions=earlier), 1)
    assert not torch.equal(_loss(model, Batch(inputs=changed, targets=batch.targets))[0], losses[0])
