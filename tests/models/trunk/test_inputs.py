"""Batches move and are cut as one."""

from collections.abc import Callable
from dataclasses import fields

import torch

from vla.models.trunk.inputs import Batch

MakeBatch = Callable[..., Batch]


def test_everything_moves(make_batch: MakeBatch) -> None:
    moved = make_batch().to(torch.device("meta"))
    tensors = [getattr(part, f.name) for part in (moved.inputs, moved.targets) for f in fields(part)]
    signals = tensors.pop()
    assert {tensor.device.type for tensor in (*tensors, *signals.values())} == {"meta"}


def test_some_samples_are_cut_from_everything(make_batch: MakeBatch) -> None:
    batch = make_batch(size=7)
    part = batch[2:5]
    assert (len(batch), len(part), len(part.inputs)) == (7, 3, 3)
    for ours, whole in ((part.inputs, batch.inputs), (part.targets, batch.targets)):
        for f in fields(ours):
            if f.name != "signals":
                assert torch.equal(getattr(ours, f.name), getattr(whole, f.name)[2:5])
    assert part.targets.signals.keys() == batch.targets.signals.keys()
    assert all(torch.equal(v, batch.targets.signals[k][2:5]) for k, v in part.targets.signals.items())
