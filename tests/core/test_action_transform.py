"""What is done to actions is undone to the bit of rounding, in NumPy and in torch, and only angles are touched."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vla.core.action_transform import ActionTransform
from vla.core.contract import Contract, Dimension
from vla.core.errors import ContractError


def _contract() -> Contract:
    def joint(name: str, unit: str = "rad") -> Dimension:
        return Dimension(name=name, unit=unit, low=-3.0, high=3.0)

    return Contract(
        robot="arm",
        cameras=(),
        state=(joint("b"), joint("a"), joint("gripper", "m")),
        action=(joint("a"), joint("gripper", "m"), joint("c")),
        control_hz=10.0,
    )


def test_angles_are_relative_to_the_state_of_their_name_and_nothing_else_is() -> None:
    assert ActionTransform.of(_contract()).relative_to == (1, None, None)
    assert ActionTransform.absolute(_contract()).relative_to == (None, None, None)


_Case = tuple[tuple[int | None, ...], np.ndarray, np.ndarray]


@st.composite
def _cases(draw: st.DrawFn) -> _Case:
    states = draw(st.integers(0, 4))
    source = st.none() | st.integers(0, states - 1) if states else st.none()
    relative_to = tuple(draw(st.lists(source, min_size=1, max_size=5)))
    batch = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
    horizon = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    state = rng.uniform(-3, 3, (*batch, states)).astype(np.float32)
    return relative_to, state, rng.uniform(-3, 3, (*batch, horizon, len(relative_to))).astype(np.float32)


@given(case=_cases())
def test_undo_mirrors_apply(case: _Case) -> None:
    relative_to, state, actions = case
    transform = ActionTransform(relative_to=relative_to)
    before = actions.copy()
    offsets = transform.apply(state, actions)
    np.testing.assert_array_equal(actions, before)
    assert offsets.dtype == np.float32
    np.testing.assert_allclose(transform.undo(state, offsets), actions, atol=1e-6)
    for column, source in enumerate(transform.relative_to):
        moved = 0 if source is None else state[..., None, source]
        np.testing.assert_array_equal(offsets[..., column], actions[..., column] - moved)


@given(case=_cases())
def test_torch_agrees_with_numpy(case: _Case) -> None:
    relative_to, state, actions = case
    transform = ActionTransform(relative_to=relative_to)
    tensors = torch.from_numpy(state), torch.from_numpy(actions)
    for name in ("apply", "undo"):
        np.testing.assert_array_equal(
            getattr(transform, name)(*tensors).numpy(), getattr(transform, name)(state, actions)
        )


def test_actions_of_another_robot() -> None:
    with pytest.raises(ValueError, match="expected 3 dimensions, got 4"):
        ActionTransform.of(_contract()).apply(np.zeros(3, np.float32), np.zeros((2, 4), np.float32))


def test_json() -> None:
    transform = ActionTransform.of(_contract())
    assert ActionTransform.from_json(json.loads(json.dumps(transform.to_json())), where="here") == transform
    damaged: Any
    for damaged in ({}, {"relative_to": 3}, {"relative_to": [-1]}, {"relative_to": [True]}, {"relative_to": ["a"]}):
        with pytest.raises(ContractError, match="here: relative_to must list"):
            ActionTransform.from_json(damaged, where="here")
