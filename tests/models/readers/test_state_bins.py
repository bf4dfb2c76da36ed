"""The state as ids: each dimension in bins of its own, through the one table."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.models.learning import learn, scaled
from vla.core.errors import ConfigError
from vla.models.auxiliaries.config import GroundingConfig
from vla.models.model import Model
from vla.models.readers.config import ImagesConfig, StateBinsConfig, StateConfig, TextConfig
from vla.models.readers.state_bins import StateBinsReader
from vla.models.trunk.inputs import Batch
from vla.models.trunk.interface import Interface
from vla.models.trunk.vocabulary import SPECIALS, TokenTable, Vocabulary

MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., Model]
FIVE = Interface(
    cameras=("front",), history=1, state=5, action=4, horizon=3, words=40, text=6, embodiments=1, signals={}
)


def _readers(**settings: Any) -> dict[str, Any]:
    settings = {"bins": 8, "dropout": 0.0} | settings
    return {
        "text": TextConfig(heads=3),
        "images": ImagesConfig(channels=4, tokens=3),
        "state": StateBinsConfig(**settings),
    }


@pytest.fixture
def several(interface: Interface) -> Interface:
    """Three robots, seen twice."""
    return replace(interface, history=2, embodiments=3)


def _reader(interface: Interface, **settings: Any) -> tuple[StateBinsReader, TokenTable]:
    torch.manual_seed(0)
    reader = scaled(StateBinsReader(StateBinsConfig(**{"bins": 8, "dropout": 0.0} | settings), interface, 6))
    table = TokenTable(Vocabulary({"special": len(SPECIALS), **reader.ranges}), 6)
    return reader, scaled(table)


@given(st.lists(st.floats(-3, 3, width=32), min_size=5, max_size=5))
def test_ids_are_those_of_evenly_spaced_cells_and_each_dimension_has_its_own(values: list[float]) -> None:
    """Against numpy's digitize on the borders between the cells."""
    reader, _ = _reader(FIVE, reach=1.5)
    found = reader.ids(torch.tensor([[values]]))[0, 0].tolist()
    centres = np.linspace(-1.5, 1.5, 8)
    borders = (centres[1:] + centres[:-1]) / 2
    for dimension, (value, number) in enumerate(zip(values, found, strict=True)):
        if np.abs(borders - value).min() > 1e-5:  # on a border both are right
            assert number == 8 * dimension + np.digitize(value, borders)


def test_a_token_is_a_row_of_the_table(several: Interface, make_batch: MakeBatch) -> None:
    batch = make_batch(interface=several)
    reader, table = _reader(several)
    x = reader(batch.inputs, {}, table, {}).x.view(7, 2, 5, 6)
    ids = reader.ids(batch.inputs.state)
    expected = (
        table.rows("state")[ids] + reader.time[:, None] + reader.embodiment[batch.inputs.embodiment][:, None, None]
    )
    torch.testing.assert_close(x, expected)


def test_what_a_robot_lacks_and_what_was_not_yet_is_not_valid(several: Interface, make_batch: MakeBatch) -> None:
    batch = make_batch(interface=several)
    batch.inputs.state_valid[1, 3:] = False
    batch.inputs.observed[2, 0] = False
    reader, table = _reader(several)
    valid = reader(batch.inputs, {}, table, {}).valid.view(7, 2, 5)
    assert not valid[1, :, 3:].any()
    assert not valid[2, 0].any()
    assert int((~valid).sum()) == 4 + 5


def test_a_state_that_is_left_out_says_nothing(several: Interface, make_batch: MakeBatch) -> None:
    batch = make_batch(interface=several)
    reader, table = _reader(several, dropout=1.0)
    other = replace(batch.inputs, state=-batch.inputs.state)
    assert torch.equal(reader(batch.inputs, {}, table, {}).x, reader(other, {}, table, {}).x)
    reader.eval()
    assert not torch.equal(reader(batch.inputs, {}, table, {}).x, reader(other, {}, table, {}).x)


def test_a_batch_is_learned_and_the_rows_that_were_read_learn(make_model: MakeModel, make_batch: MakeBatch) -> None:
    batch = make_batch(size=4)
    model = make_model(readers=_readers())
    first, *_, last = learn(model, batch, steps=40, lr=1e-2)
    assert last["action_loss"] < 0.75 * first["action_loss"]
    model = scaled(make_model(readers=_readers()))
    model.loss(batch.inputs, batch.targets)[0].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()] == []
    gradient, own = model.get_parameter("table.weight").grad, model.table.vocabulary.range("state")  # type: ignore[union-attr]
    reader = model.readers["state"]  # type: ignore[index]
    assert gradient is not None
    read = set(reader.ids(batch.inputs.state).flatten().tolist())
    touched = gradient[own.start : own.stop].abs().sum(dim=1).nonzero()[:, 0].tolist()
    assert set(touched) == read


def test_the_range_stands_between_the_specials_and_what_auxiliaries_say(make_model: MakeModel) -> None:
    model = make_model(readers=_readers())
    vocabulary = model.table.vocabulary  # type: ignore[union-attr]
    assert list(vocabulary) == ["text", "special", "state", "grounding", "action"]  # type: ignore[arg-type]
    assert len(vocabulary.range("state")) == 5 * 8  # type: ignore[operator]


def test_two_parts_that_want_one_range_are_refused(make_model: MakeModel, interface: Interface) -> None:
    with pytest.raises(ConfigError, match=r"readers.state and readers.again both ask for the range 'state'"):
        make_model(readers=_readers() | {"again": StateBinsConfig(bins=4)})
    signals = {"state": interface.signals["grounding"]}
    with pytest.raises(ConfigError, match=r"readers.state and auxiliaries.where both ask for the range 'state'"):
        make_model(
            interface=replace(interface, signals=signals),
            readers=_readers(),
            auxiliaries={"where": GroundingConfig(signal="state")},
        )


@pytest.mark.parametrize(
    ("settings", "message"), [({"bins": 1}, "bins=1"), ({"reach": 0.0}, "reach=0.0"), ({"dropout": 2.0}, "dropout=2.0")]
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"model.readers.state-bins.{message} must be"):
        StateBinsConfig(**settings)


def test_bins_forget_what_lies_within_one_and_a_projection_does_not(
    make_model: MakeModel, make_batch: MakeBatch
) -> None:
    """The one thing that the two readers disagree on: a change within a bin."""
    batch = make_batch()
    state = torch.full_like(batch.inputs.state, 0.3)
    near = state + 0.01
    for reader, alike in ((_readers(reach=1.0)["state"], True), (StateConfig(dropout=0.0), False)):
        model = scaled(make_model(readers=_readers() | {"state": reader}))
        one, other = (model.act(replace(batch.inputs, state=value)).actions for value in (state, near))
        assert torch.equal(one, other) == alike
