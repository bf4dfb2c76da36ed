"""What is shown and answered is held against the contract, by one rule each."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import ContractError
from vla.core.fit import check_actions, check_chunk, check_images, check_observation, check_state, limits
from vla.core.types import ActionChunk, Observation

CONTRACT = Contract(
    robot="arm",
    cameras=(Camera(name="front", height=4, width=6), Camera(name="deep", height=2, width=2, kind="depth")),
    state=(Dimension(name="lift", unit="m", low=0.0, high=1.0), Dimension(name="turn", unit="rad", low=-2.0, high=3.0)),
    action=(Dimension(name="turn", unit="rad", low=-2.0, high=3.0),),
    control_hz=10.0,
)
IMAGES: dict[str, Any] = {"front": np.zeros((4, 6, 3), np.uint8), "deep": np.zeros((2, 2, 1), np.uint16)}


def test_what_fits_is_taken() -> None:
    check_images({**IMAGES, "another": None}, CONTRACT, who="x")
    check_state(np.zeros(2, np.float32), CONTRACT, who="x")
    check_actions(np.zeros((1, 1), np.float32), CONTRACT, who="x")
    chunk = ActionChunk(actions=np.zeros((3, 1), np.float32), time_ns=0)
    assert check_chunk(chunk, CONTRACT, who="x") is chunk


@pytest.mark.parametrize(
    ("check", "value", "says"),
    [
        (check_images, {"deep": IMAGES["deep"]}, "x: expected cameras front, deep, got deep; send front"),
        (check_images, {}, "got none; send front, deep"),
        (check_images, IMAGES | {"front": np.zeros((4, 6, 3))}, r"front: expected uint8 \(4, 6, 3\), got float64"),
        (check_images, IMAGES | {"front": np.zeros((3, 4, 6), np.uint8)}, r"got uint8 \(3, 4, 6\); put the channels"),
        (check_images, IMAGES | {"deep": np.zeros((2, 2, 3), np.uint8)}, r"deep: expected uint16 \(2, 2, 1\)"),
        (check_images, IMAGES | {"front": "a.png"}, "got str"),
        (check_state, np.zeros(3, np.float32), r"state: expected float32 \(2,\) \(lift \[m\], turn \[rad\]\), got"),
        (check_state, np.zeros(2), "got float64"),
        (check_state, [0.0, 0.0], "got list"),
        (check_state, np.array([0, np.inf], np.float32), "NaN or infinity for turn"),
        (check_actions, np.zeros((0, 1), np.float32), r"at least one step, got float32 \(0, 1\)"),
        (check_actions, np.zeros((2, 2), np.float32), r"expected float32 \(horizon, 1\) .*got float32 \(2, 2\)"),
        (check_actions, np.zeros((2, 1, 1), np.float32), r"got float32 \(2, 1, 1\)"),
        (check_actions, np.zeros((2, 1)), "got float64"),
        (check_actions, None, "got NoneType"),
        (check_actions, np.full((2, 1), np.nan, np.float32), "x: actions: expected finite numbers, got NaN or"),
        (check_chunk, None, "x: expected a chunk"),
    ],
)
def test_what_does_not_fit_is_named(check: Callable[..., object], value: Any, says: str) -> None:
    with pytest.raises(ContractError, match=says):
        check(value, CONTRACT, who="x")


def test_an_observation_is_its_images_and_its_state() -> None:
    contract = replace(CONTRACT, cameras=CONTRACT.cameras[:1])
    good = Observation(images={"front": IMAGES["front"]}, state=np.zeros(2, np.float32), instruction="", time_ns=0)
    check_observation(good, contract, who="x")
    with pytest.raises(ContractError, match="send front"):
        check_observation(replace(good, images={}), contract, who="x")
    with pytest.raises(ContractError, match="state"):
        check_observation(replace(good, state=np.zeros(1, np.float32)), contract, who="x")


def test_limits_are_in_order() -> None:
    low, high = limits(CONTRACT.state)
    assert (low.tolist(), high.tolist(), low.dtype) == ([0.0, -2.0], [1.0, 3.0], np.float32)
    assert limits((), np.float64)[0].shape == (0,)
