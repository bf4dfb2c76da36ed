"""A robot without physics: registers that go where they are told, at once; and policies that know what is right."""

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vla.core.contract import Contract, Dimension
from vla.core.policy_spec import PolicySpec
from vla.core.types import ActionChunk, Observation
from vla.deploy.robots.motion import Motion

JOINTS = tuple(Dimension(name=n, unit="rad", low=-10.0, high=10.0) for n in ("pan", "tilt"))
FAST = Motion(speed=1e5, acceleration=1e8)
HZ = 20.0
"""Slow enough that what a busy machine adds is little of a period."""
PERIOD_S = 1 / HZ


class Arm:
    """Two joints and no camera; keeps what it was sent, and when."""

    def __init__(self, motion: Motion = FAST, hz: float = HZ) -> None:
        self.contract = Contract(robot="arm", cameras=(), state=JOINTS, action=JOINTS, control_hz=hz)
        self.motion, self.instruction = motion, "wave"
        self.state = np.zeros(2, np.float32)
        self.commands: list[np.ndarray] = []
        self.sent_s: list[float] = []
        self.looks = 0

    def observe(self) -> Observation:
        self.looks += 1
        return Observation(images={}, state=self.state.copy(), instruction=self.instruction, time_ns=self.looks)

    def measure(self) -> np.ndarray:
        return self.state.copy()

    def command(self, action: np.ndarray) -> None:
        self.commands.append(action.copy())
        self.sent_s.append(time.monotonic())
        self.state = action.copy()

    def close(self) -> None:
        pass


def spec(horizon: int, *, execute: int, committed: int = 0) -> PolicySpec:
    return PolicySpec(
        kind="none", horizon=horizon, execute=execute, committed=committed, relative_to=(None, None), robots=("arm",),
        preprocessor="", tokenizer="", model={},
    )  # fmt: skip


class Right:
    """Knows the right command of every look: row ``k`` of a chunk is that of ``k`` looks later. Takes its time."""

    def __init__(
        self, arm: Arm, horizon: int = 16, *, execute: int = 4, committed: int = 0, periods: Sequence[float] = (0.0,)
    ) -> None:
        self.contract = replace(arm.contract, policy=spec(horizon, execute=execute, committed=committed))
        self._horizon, self._periods = horizon, periods
        self.seen: list[Observation] = []
        self.resets = 0
        self.hang = threading.Event()
        self.error: Exception | None = None

    @staticmethod
    def command(look: int) -> np.ndarray:
        return np.array([look / 100, -look / 200], np.float32)

    def reset(self, slot: int) -> None:
        self.resets += 1

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        (seen,) = observations
        assert seen is not None
        time.sleep(self._periods[len(self.seen) % len(self._periods)] * PERIOD_S)
        self.seen.append(seen)
        if self.hang.is_set():
            time.sleep(30)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        actions = np.stack([self.command(seen.time_ns + k) for k in range(self._horizon)])
        return [ActionChunk(actions=actions, time_ns=seen.time_ns)]


class Sweeping:
    """To be served: from wherever the arm is, on at a fifth of a radian a second, sixteen steps ahead."""

    contract = replace(Arm().contract, policy=spec(16, execute=4))

    def reset(self, slot: int) -> None:
        pass

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        way = np.arange(1, 17, dtype=np.float32)[:, None] * 0.01
        return [None if o is None else ActionChunk(actions=o.state + way, time_ns=o.time_ns) for o in observations]


class Mortal(Sweeping):
    """As `Sweeping`, until it is told to die, or to hang."""

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        told = {seen.instruction for seen in observations if seen is not None}
        if "die" in told:
            os._exit(1)
        if "hang" in told:
            time.sleep(60)
        return super().act(observations)
