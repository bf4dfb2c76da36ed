"""Batches move and are cut as one."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vla.models.trunk.inputs import SPAN, Batch, Committed, Sound

MakeBatch = Callable[..., Batch]


@pytest.fixture
def whole(make_batch: MakeBatch) -> Batch:
    """With all that an input and a target may have."""
    batch = make_batch(size=7)
    committed = Committed(actions=batch.targets.actions, steps=torch.arange(7) % 3)
    sound = Sound.of([torch.rand(10 * i, 5) if i else None for i in range(7)])
    inputs = replace(batch.inputs, sound=sound, committed=committed, seeds=torch.arange(7))
    return Batch(inputs=inputs, targets=replace(batch.targets, executed=batch.targets.actions + 1))


def _tensors(value: Any) -> dict[str, Tensor]:
    """Every tensor in it, by name."""
    if isinstance(value, Tensor):
        return {"": value}
    parts = value.items() if isinstance(value, Mapping) else ((f.name, getattr(value, f.name)) for f in fields(value))
    return {f"{name}.{inner}": tensor for name, part in parts for inner, tensor in _tensors(part).items()}


def test_everything_moves(whole: Batch) -> None:
    assert {tensor.device.type for tensor in _tensors(whole.to(torch.device("meta"))).values()} == {"meta"}


def test_some_samples_are_cut_from_everything(whole: Batch) -> None:
    part = whole[2:5]
    assert (len(whole), len(part), len(part.inputs)) == (7, 3, 3)
    ours, theirs = _tensors(part), _tensors(whole)
    assert ours.keys() == theirs.keys() > {"inputs.committed.steps.", "inputs.seeds.", "targets.signals.grounding."}
    assert all(torch.equal(tensor, theirs[name][2:5]) for name, tensor in ours.items())


def test_what_is_not_given_stays_so(make_batch: MakeBatch) -> None:
    inputs = make_batch()[2:5].to(torch.device("cpu")).inputs
    assert (inputs.sound, inputs.committed, inputs.seeds) == (None, None, None)


def test_sounds_stand_side_by_side_and_say_where_they_end() -> None:
    spectrograms = [torch.rand(3, 4), None, torch.rand(SPAN + 1, 4)]
    sound = Sound.of(spectrograms)
    assert sound is not None
    assert sound.mel.shape == (3, 2 * SPAN, 4)
    for row, spectrogram in enumerate(spectrograms):
        length = 0 if spectrogram is None else len(spectrogram)
        assert sound.valid[row].tolist() == [i < length for i in range(2 * SPAN)]
        assert not sound.mel[row, length:].any()
        assert spectrogram is None or torch.equal(sound.mel[row, :length], spectrogram)
    assert Sound.of([None, None]) is None
