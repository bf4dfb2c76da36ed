"""What is shown and answered is held against the contract, by one rule each."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import ContractError
from vla.core.fit import (
    check_actions,
    check_chunk,
    check_images,
    check_limits,
    check_observation,
    check_speech,
    check_state,
    limits,
)
from vla.core.policy_spec import PolicySpec
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


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (np.zeros((16_000, 2), np.float32), r"mono float32 \(samples,\) at 16000 Hz, got float32 \(16000, 2\)"),
        (np.zeros(16_000), "got float64"),
        (np.zeros(16_000, np.int16), "got int16"),
        ([0.0] * 16_000, "got list"),
        (np.zeros(0, np.float32), "expected 0.1 to 8 s, got 0 samples"),
        (np.zeros(1599, np.float32), "expected 0.1 to 8 s, got 1599 samples, which are 0.09994 s at 16000 Hz"),
        (np.zeros(128_001, np.float32), "expected 0.1 to 8 s, got 128001 samples"),
        (np.full(16_000, 20_000, np.float32), "from -1 to 1, got 20000; divide int16 by 32768"),
        (np.full(16_000, np.nan, np.float32), "expected finite samples from -1 to 1, got nan"),
        (np.full(16_000, -np.inf, np.float32), "expected finite samples from -1 to 1, got inf"),
    ],
)
def test_speech_is_a_waveform_of_some_seconds(samples: Any, says: str) -> None:
    with pytest.raises(ContractError, match=f"x: speech: .*{says}"):
        check_speech(samples, _listening(True), who="x")


def test_speech_is_for_who_listens() -> None:
    spoken = np.linspace(-1, 1, 128_000, dtype=np.float32)
    check_observation(replace(_SEEN, speech=spoken), _ONE_CAMERA, who="x")  # of the robot, whoever drives it
    with pytest.raises(ContractError, match=r"x: speech: expected 0\.1 to 8 s"):
        check_observation(replace(_SEEN, speech=spoken[:100]), _ONE_CAMERA, who="x")
    check_speech(spoken, _listening(True), who="x")
    for deaf in (_listening(False), CONTRACT):
        with pytest.raises(ContractError, match=r"x: speech: the policy reads .* was not trained to listen"):
            check_speech(spoken, deaf, who="x")


_ONE_CAMERA = replace(CONTRACT, cameras=CONTRACT.cameras[:1])
_SEEN = Observation(images={"front": IMAGES["front"]}, state=np.zeros(2, np.float32), instruction="", time_ns=0)


def _listening(speech: bool) -> Contract:
    relative: tuple[None, ...] = (None,)
    spec = PolicySpec(
        kind="mine",
        horizon=1,
        execute=1,
        relative_to=relative,
        robots=("arm",),
        preprocessor="",
        tokenizer="",
        model={},
        speech=speech,
    )
    return replace(CONTRACT, policy=spec)


def test_an_instruction_is_a_string() -> None:
    images = {"front": IMAGES["front"]}
    observation = Observation(images=images, state=np.zeros(2, np.float32), instruction="", time_ns=0)
    object.__setattr__(observation, "instruction", 5)  # the types are checked in tests, and not in use
    with pytest.raises(ContractError, match="x: instruction: expected a string, got int"):
        check_observation(observation, replace(CONTRACT, cameras=CONTRACT.cameras[:1]), who="x")


def test_limits_are_in_order() -> None:
    low, high = limits(CONTRACT.state)
    assert (low.tolist(), high.tolist(), low.dtype) == ([0.0, -2.0], [1.0, 3.0], np.float32)
    assert limits((), np.float64)[0].shape == (0,)


def test_a_state_a_little_outside_comes_back_inside_and_one_far_outside_is_refused() -> None:
    seen = Observation(images=IMAGES, state=np.array([1.2, -2.0], np.float32), instruction="", time_ns=0)
    inside = check_observation(seen, CONTRACT, who="x")
    assert inside.state.tolist() == [1.0, -2.0]
    assert seen.state[0] == np.float32(1.2)
    near = replace(seen, state=np.array([1.0000001, 3.0], np.float32))  # rounding
    assert check_observation(near, CONTRACT, who="x") is near
    for state, says in (
        (
            [1.6, 0.0],
            "x: state lift: expected 0 to 1 m .at most 0.5 of that range beyond.*, got 1.6; correct",
        ),
        ([0.0, 57.3], "x: state turn: expected -2 to 3 rad .*, got 57.3;"),
        ([0.0, -1e30], "x: state turn: .* got -1e[+]30"),
    ):
        with pytest.raises(ContractError, match=says):
            check_observation(replace(seen, state=np.array(state, np.float32)), CONTRACT, who="x")
    strict = replace(CONTRACT, tolerance=0.0)
    with pytest.raises(ContractError, match="lift"):
        check_observation(seen, strict, who="x")


def test_commands_outside_come_back_inside_and_are_named() -> None:
    actions = np.array([[0.0], [40.0], [3.0], [-1e30]], np.float32)
    chunk = check_chunk(ActionChunk(actions=actions, time_ns=5, clipped=(2,)), CONTRACT, who="x")
    assert chunk.actions.tolist() == [[0.0], [3.0], [3.0], [-2.0]]
    assert chunk.clipped == (1, 2, 3)
    rounded = check_chunk(ActionChunk(actions=np.array([[3.0000005]], np.float32), time_ns=0), CONTRACT, who="x")
    assert (rounded.actions.max(), rounded.clipped) == (3.0, ())


@pytest.mark.parametrize(
    ("low", "high", "good", "bad"),
    [(0.0, np.inf, [-0.4, 1e9], -0.6), (-np.inf, np.inf, [1e30, -1e30], None), (2.0, 2.0, [1.5, 2.5], 4.0)],
)
def test_limits_that_are_open_or_leave_no_room(low: float, high: float, good: list[float], bad: float | None) -> None:
    one = (Dimension(name="d", unit="1", low=low, high=high),)
    check_limits(np.array([[v] for v in good]), one, 0.5, what="rows")
    if bad is not None:
        with pytest.raises(ContractError, match=r"rows d: .* at step 1 of 2"):
            check_limits(np.array([good[:1], [bad]]), one, 0.5, what="rows")


def test_a_tolerance_is_part_of_the_contract_where_it_is_said() -> None:
    assert "tolerance" not in CONTRACT.to_json()
    strict = replace(CONTRACT, tolerance=0.1)
    assert Contract.from_json(strict.to_json(), where="x") == strict
    assert strict.digest() != CONTRACT.digest()
    for wrong in ("0.1", -1, True, float("nan"), float("inf"), None):
        with pytest.raises(ContractError, match="x: tolerance: expected a number from 0"):
            Contract.from_json({**CONTRACT.to_json(), "tolerance": wrong}, where="x")
