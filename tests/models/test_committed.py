"""Steps that are decided before a chunk is asked for: how many are drawn, who reads them, and what is learned."""

from collections.abc import Callable
from dataclasses import replace

import torch

from vla.models.committed import CommittedReader, kept
from vla.models.heads.config import L1HeadConfig
from vla.models.heads.head import ACTION_BLOCK
from vla.models.trunk.inputs import Batch, Committed
from vla.models.trunk.interface import Interface
from vla.models.unified import UnifiedTransformer

MakeModel = Callable[..., UnifiedTransformer]
MakeBatch = Callable[..., Batch]
Change = Callable[..., Batch]


def test_how_many_are_decided_is_drawn_from_none_to_most(interface: Interface, make_batch: MakeBatch) -> None:
    torch.manual_seed(0)
    reader, targets = CommittedReader(2, 0.0, interface, 8), make_batch(size=4000).targets
    drawn = reader.draw(targets)
    assert torch.equal(drawn.actions, targets.actions)
    counts = torch.bincount(drawn.steps)
    assert len(counts) == 3
    assert (counts - torch.tensor([2000, 1000, 1000])).abs().max() < 130


def test_decided_steps_are_wrong_as_a_policy_is(interface: Interface, make_batch: MakeBatch) -> None:
    """Mostly by one offset for a sample, by no more than is said, and no label with them."""
    torch.manual_seed(0)
    targets = make_batch(size=3000).targets
    labels = targets.actions.clone()
    faults = CommittedReader(2, 0.2, interface, 8).draw(targets).actions - targets.actions  # (b, h, d)
    assert torch.equal(targets.actions, labels)
    offset = faults.mean(dim=1, keepdim=True)
    assert 0.08 < float(offset.std()) < 0.15  # 0.2 / √3
    assert float((faults - offset).std()) < 0.4 * float(offset.std())
    each = faults.std(dim=(1, 2))
    assert float(each.quantile(0.1)) < 0.3 * float(each.quantile(0.9))  # samples with next to none among them


def test_what_may_not_be_learned_is_not_decided_either(
    interface: Interface, make_batch: MakeBatch, change: Change
) -> None:
    """Of a chunk at the end of an episode, no more than what still belongs to it."""
    reader, batch = CommittedReader(2, 0.0, interface, 8), make_batch(size=300)
    valid = torch.ones_like(batch.targets.valid)
    valid[:100], valid[100:200, 1:], valid[:, :, 3] = False, False, False
    steps = reader.draw(change(batch, valid=valid).targets).steps
    assert [int(steps[i : i + 100].max()) for i in (0, 100, 200)] == [0, 1, 2]
    gap = torch.ones_like(valid)
    gap[:, 0] = False  # nor what comes behind it
    assert not reader.draw(change(batch, valid=gap).targets).steps.any()


def test_its_tokens_stand_between_the_inputs_and_the_actions(interface: Interface, make_batch: MakeBatch) -> None:
    reader, batch = CommittedReader(2, 0.0, interface, 8), make_batch(size=3)
    decided = Committed(actions=batch.targets.actions, steps=torch.tensor([0, 1, 2]))
    segment = reader(replace(batch.inputs, committed=decided))
    assert segment.x.shape == (3, 2, 8)
    assert segment.block == ACTION_BLOCK - 1
    assert segment.valid.tolist() == [[False, False], [True, False], [True, True]]
    nothing = reader(batch.inputs)  # has its place, so that what comes behind it is where it was learned
    assert nothing.x.shape == segment.x.shape
    assert not nothing.valid.any()


def test_the_same_command_is_another_token_at_another_step(interface: Interface, make_batch: MakeBatch) -> None:
    reader, batch = CommittedReader(2, 0.0, interface, 8), make_batch(size=1)
    decided = Committed(actions=torch.full_like(batch.targets.actions, 0.3), steps=torch.tensor([2]))
    x = reader(replace(batch.inputs, committed=decided)).x
    assert not torch.allclose(x[0, 0], x[0, 1])


def test_what_was_decided_stands_in_the_place_of_what_was_written() -> None:
    given, written = torch.ones(3, 4, 2), torch.zeros(3, 4, 2)
    answer = kept(Committed(actions=given, steps=torch.tensor([0, 1, 3])), written)
    assert answer.sum(dim=2).tolist() == [[0, 0, 0, 0], [2, 0, 0, 0], [2, 2, 2, 0]]
    coarse = kept(Committed(actions=given, steps=torch.tensor([0, 1, 3])), written.bfloat16())
    assert coarse.dtype == torch.bfloat16  # what is written says in which precision


@torch.no_grad()
def test_training_decides_some_steps_and_validation_none(make_model: MakeModel, make_batch: MakeBatch) -> None:
    """So that what is held out is measured on all steps, and twice the same."""
    model, batch = make_model(head=L1HeadConfig(), committed=2), make_batch()
    losses = {
        training: [model.train(training).loss(batch.inputs, batch.targets)[0] for _ in range(3)]
        for training in (True, False)
    }
    assert len({loss.item() for loss in losses[True]}) == 3
    assert len({loss.item() for loss in losses[False]}) == 1
    nothing = Committed(actions=batch.targets.actions, steps=torch.zeros(7, dtype=torch.long))
    same = model.loss(replace(batch.inputs, committed=nothing), batch.targets)[0]
    torch.testing.assert_close(same, losses[False][0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_loss_leaves_decided_steps_out(make_model: MakeModel, make_batch: MakeBatch, change: Change) -> None:
    """With two of three decided, it is that of the third alone."""
    model, batch = make_model(head=L1HeadConfig(), committed=2), make_batch()
    decided = Committed(actions=batch.targets.actions, steps=torch.full((7,), 2))
    inputs = replace(batch.inputs, committed=decided)
    valid = torch.zeros_like(batch.targets.valid)
    valid[:, 2] = True
    for name in ("action_loss", "grounding_loss", "pointing_loss"):
        all_steps = model.loss(inputs, batch.targets)[1][name]
        torch.testing.assert_close(all_steps, model.loss(inputs, change(batch, valid=valid).targets)[1][name])


@torch.no_grad()
def test_auxiliaries_do_not_see_what_is_decided(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = make_model(head=L1HeadConfig(), committed=2), make_batch()
    beliefs = []
    for sign in (1, -1):
        decided = Committed(actions=sign * batch.targets.actions, steps=torch.full((7,), 2))
        beliefs.append(model.act(replace(batch.inputs, committed=decided)).signals)
    assert all(torch.equal(beliefs[0][name], beliefs[1][name]) for name in ("grounding", "pointing"))


def test_it_learns_to_go_on_from_what_is_decided(make_model: MakeModel, make_batch: MakeBatch, change: Change) -> None:
    """Same inputs, two ways: only what is decided says which, and where nothing is, the loss stays."""
    model, batch = make_model(head=L1HeadConfig(), committed=2), make_batch(size=1)
    once = batch.inputs
    inputs = once._each(lambda tensor: torch.cat([tensor] * 4))
    ways = torch.tensor([-0.7, 0.7] * 2)[:, None, None].expand(4, 3, 4).contiguous()
    targets = replace(batch.targets._each(lambda tensor: torch.cat([tensor] * 4)), actions=ways)
    parts = [*model.trunk.parameters(), *model.head.parameters(), *model.committed.parameters()]  # type: ignore[union-attr]
    optimiser = torch.optim.Adam(parts, lr=1e-2)
    torch.manual_seed(0)
    for _ in range(45):
        optimiser.zero_grad()
        model.loss(inputs, targets)[0].backward()
        optimiser.step()
    told = Committed(actions=ways, steps=torch.ones(4, dtype=torch.long))
    rest = model.act(replace(inputs, committed=told)).actions[:, 1:]
    assert ((rest - ways[:, 1:]).abs() < 0.3).all()
    untold = model.act(inputs).actions
    assert torch.equal(untold, untold[:1].expand_as(untold))  # who is told nothing cannot know


def test_without_the_setting_nothing_is_built(make_model: MakeModel) -> None:
    assert not [name for name in make_model(committed=0).state_dict() if "committed" in name]
    assert [name for name in make_model(committed=2).state_dict() if name.startswith("committed.")]


def test_what_is_decided_is_what_was_sent_and_not_its_label(interface: Interface, make_batch: MakeBatch) -> None:
    """Labels put faults right, and what runs already has them."""
    reader, targets = CommittedReader(2, 0.0, interface, 8), make_batch(size=3).targets
    sent = targets.actions + 0.25
    assert torch.equal(reader.draw(replace(targets, executed=sent)).actions, sent)
