"""The checker of policies finds what would spoil an evaluation."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import VlaError
from vla.core.types import ActionChunk, Observation
from vla.policies.checker import check_policy, made_up_observations
from vla.policies.random import RandomPolicy

_JOINTS = tuple(Dimension(name=name, unit="rad", low=-2.0, high=2.0) for name in ("shoulder", "elbow"))
_CONTRACT = Contract(
    robot="two-link",
    cameras=(Camera(name="front", height=8, width=6), Camera(name="depth", height=8, width=6, kind="depth")),
    state=_JOINTS,
    action=_JOINTS,
    control_hz=10.0,
)


class _Counting:
    """Remembers how often each slot asked, as a policy with history does; ``answer`` makes the actions of it."""

    contract: Any = _CONTRACT

    def __init__(
        self, answer: Callable[[Observation, int], Any] = lambda o, asked: o.state[None] / (1 + asked)
    ) -> None:
        self.answer, self.asked = answer, dict[int, int]()

    def reset(self, slot: int) -> None:
        self.asked[slot] = 0

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        return [o and self.chunk(slot, o) for slot, o in enumerate(observations)]

    def chunk(self, slot: int, observation: Observation) -> ActionChunk:
        self.asked[slot] = self.asked.get(slot, 0) + 1
        return ActionChunk(actions=self.answer(observation, self.asked[slot]), time_ns=observation.time_ns)


class _NeverForgets(_Counting):
    def reset(self, slot: int) -> None:
        pass


class _OneMemory(_Counting):
    def reset(self, slot: int) -> None:
        self.asked[0] = 0

    def chunk(self, slot: int, observation: Observation) -> ActionChunk:
        return super().chunk(0, observation)


class _Crowded(_Counting):
    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        live = sum(o is not None for o in observations)
        return [o and ActionChunk(actions=o.state[None] / live, time_ns=o.time_ns) for o in observations]


class _Eager(_Counting):
    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        return [self.chunk(slot, o or made_up_observations(_CONTRACT, 1)[0]) for slot, o in enumerate(observations)]


class _Short(_Counting):
    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        return super().act(observations)[:-1]


class _Late(_Counting):
    def chunk(self, slot: int, observation: Observation) -> ActionChunk:
        return ActionChunk(actions=observation.state[None], time_ns=observation.time_ns + 1)


class _NoContract(_Counting):
    contract: Any = "two-link"


def test_a_policy_with_memory_that_keeps_its_promise() -> None:
    assert check_policy(_Counting()) == []
    assert check_policy(RandomPolicy(_CONTRACT)) == []


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (_NeverForgets(), "slot 0 asked alone after reset.0.*drop it in reset"),
        (_OneMemory(), "the same observations gave another chunk"),
        (_Crowded(), "slot 0 asked alone"),
        (_Eager(), "asked for nothing .None. and got a chunk"),
        (_Short(), "got 3 observations and returned 2 answers"),
        (_Late(), "time_ns: a chunk has that of the observation"),
        (_NoContract(), "expected a Contract, got str"),
        (_Counting(lambda o, asked: np.full((2, 2), np.nan, np.float32)), "expected finite numbers, got NaN"),
        (
            _Counting(lambda o, asked: np.zeros((2, 3), np.float32)),
            "float32 .horizon, 2. .* got float32 .2, 3.",
        ),
    ],
)
def test_broken_promises_are_named(policy: Any, message: str) -> None:
    with pytest.raises(VlaError, match=message):
        check_policy(policy)


def test_commands_outside_the_limits_are_allowed_and_said() -> None:
    (note,) = check_policy(_Counting(lambda o, asked: np.array([[0.0, 2.5]], np.float32)))
    assert note == "elbow: 3 of 3 commands are outside [-2, 2], by up to 0.5 rad; they will be clipped"


def test_observations_are_three_and_of_the_contracts_shapes() -> None:
    seen = made_up_observations(_CONTRACT, 3)
    assert {(o.images["front"].shape, str(o.images["depth"].dtype)) for o in seen} == {((8, 6, 3), "uint16")}
    with pytest.raises(VlaError, match="expected 3, one for each slot, got 2"):
        check_policy(_Counting(), seen[:2])
