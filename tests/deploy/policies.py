"""Policies that misbehave when told to, found by importing this module: child processes build them too."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import ContractError
from vla.core.types import ActionChunk, Observation, Policy

CONTRACT = Contract(
    robot="two-link",
    cameras=(
        Camera(name="front", height=8, width=6),
        Camera(name="depth", height=5, width=3, kind="depth"),
        Camera(name="wrist", height=4, width=4),
    ),
    state=tuple(Dimension(name=n, unit="rad", low=-1000.0, high=1000.0) for n in ("shoulder", "elbow")),
    action=tuple(Dimension(name=n, unit="rad", low=-1.0, high=1.0) for n in ("shoulder", "elbow")),
    control_hz=20.0,
)


class ToldPolicy:
    """Answers with the means of its images, the count of its slot, and the state; does what the instruction says."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.kept: Observation | None = None

    @property
    def contract(self) -> Contract:
        return CONTRACT

    def reset(self, slot: int) -> None:
        self.counts[slot] = 0

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        for observation in observations:
            if observation is not None:
                _do(observation.instruction)
        return [None if o is None else self._chunk(slot, o) for slot, o in enumerate(observations)]

    def _chunk(self, slot: int, observation: Observation) -> ActionChunk:
        self.counts[slot] += 1
        earlier, self.kept = self.kept, observation
        means = [float(image.mean()) for image in observation.images.values()]
        signals = {
            "means": np.array(means, np.float32),
            "kept": np.array([0.0 if earlier is None else earlier.images["front"].mean()], np.float32),
            "count": np.array([self.counts[slot]], np.float32),
            "process": np.array([os.getpid()], np.float32),
        }
        if observation.committed is not None:
            signals["committed"] = observation.committed.ravel()
        if observation.speech is not None:
            signals["speech"] = observation.speech
        actions = np.repeat(observation.state[None], 3, axis=0)
        return ActionChunk(actions=actions, time_ns=observation.time_ns, signals=signals)


def _do(told: str) -> None:
    if told == "hang":
        time.sleep(60)
    if told == "wait":
        time.sleep(0.5)
    if told == "die":
        os.kill(os.getpid(), 9)
    if told == "leave":
        raise SystemExit(3)
    if told == "fail":
        raise RuntimeError("secret weights at /srv/weights")
    if told == "refuse":
        raise ContractError("the instruction is too long")


def unable() -> ToldPolicy:
    raise ContractError("there is no checkpoint")


def once(path: str) -> ToldPolicy:
    """Can be built one time only."""
    with open(path, "x"):
        return ToldPolicy()


def slowly(kind: Callable[[], Policy], seconds: float) -> Policy:
    """One that takes so long to be built, however fast the machine is."""
    time.sleep(seconds)
    return kind()


class NumberedPolicy(ToldPolicy):
    """Commands the number that was in a file when it was built."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        chunk = np.full((3, 2), self.number, np.float32)
        return [None if o is None else ActionChunk(actions=chunk, time_ns=o.time_ns) for o in observations]


class OtherRobot(ToldPolicy):
    @property
    def contract(self) -> Contract:
        return replace(CONTRACT, robot="three-link")


def numbered(path: str) -> ToldPolicy:
    """What a file says: a number, ``other`` or ``unable``."""
    said = Path(path).read_text()
    if said == "unable":
        raise ContractError("there is no checkpoint")
    return OtherRobot() if said == "other" else NumberedPolicy(float(said))


def read(path: str) -> str:
    return Path(path).read_text()


def told_number() -> ToldPolicy:
    return numbered(os.environ["VLA_TEST_NUMBER"])
