"""What was made of an instruction is kept while nothing changes, and not a moment longer."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vla.models.readers.text import TextReader
from vla.models.trunk.inputs import Batch, Inputs
from vla.models.unified import UnifiedTransformer

MakeModel = Callable[..., UnifiedTransformer]
MakeBatch = Callable[..., Batch]


class _Reading:
    """The words of a model, and how often its transformer ran for them."""

    def __init__(self, model: UnifiedTransformer) -> None:
        self.model, self.runs = model, 0
        reader = model.readers["text"]
        assert isinstance(reader, TextReader)
        self.reader = reader
        reader.transformer.register_forward_hook(self._ran)

    def __call__(self, inputs: Inputs) -> Tensor:
        return self.reader(inputs, {}, self.model.table, {}).x

    def anew(self, inputs: Inputs) -> Tensor:
        self.reader._last = None
        return self(inputs)

    def _ran(self, *_: object) -> None:
        self.runs += 1


@torch.no_grad()
def test_an_instruction_is_read_once(make_model: MakeModel, make_batch: MakeBatch) -> None:
    reading, inputs = _Reading(make_model()), make_batch().inputs
    first = reading(inputs)
    other = replace(inputs, images=255 - inputs.images, text=inputs.text.clone())
    assert torch.equal(reading(other), first)
    assert reading.runs == 1


@torch.no_grad()
@pytest.mark.parametrize("part", ["text", "text_valid"])
def test_another_instruction_is_read(part: str, make_model: MakeModel, make_batch: MakeBatch) -> None:
    reading, inputs = _Reading(make_model()), make_batch().inputs
    reading(inputs)
    changed = getattr(inputs, part).clone()
    changed[0, 0] = not changed[0, 0] if part == "text_valid" else changed[0, 0] + 1
    other = replace(inputs, **{part: changed})
    found = reading(other)
    assert reading.runs == 2
    assert torch.equal(found, reading.anew(other))
    assert torch.equal(reading(other[:3]), reading.anew(other[:3]))


@torch.no_grad()
@pytest.mark.parametrize("weight", ["table.weight", "readers.text.position", "readers.text.transformer.norm.weight"])
@pytest.mark.parametrize("how", ["written into", "loaded", "replaced"])
def test_other_weights_read_again(weight: str, how: str, make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, inputs = make_model(), make_batch().inputs
    reading = _Reading(model)
    before = reading(inputs)
    values = model.get_parameter(weight)
    if how == "written into":
        values.mul_(1.5)
    elif how == "loaded":
        model.load_state_dict(model.state_dict() | {weight: 1.5 * values})
    else:
        values.data = 1.5 * values.data
    assert not torch.equal(reading(inputs), before)
    assert torch.equal(reading(inputs), reading.anew(inputs))


def test_with_gradients_nothing_is_kept(make_model: MakeModel, make_batch: MakeBatch) -> None:
    reading, inputs = _Reading(make_model()), make_batch().inputs
    with torch.no_grad():
        reading(inputs)
    assert reading(inputs).requires_grad
    assert reading(inputs).requires_grad
    assert reading.runs == 3


@torch.no_grad()
def test_another_precision_reads_again(make_model: MakeModel, make_batch: MakeBatch) -> None:
    reading, inputs = _Reading(make_model()), make_batch().inputs
    exact = reading(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(reading(inputs), exact)
