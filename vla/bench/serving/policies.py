"""Policies of known cost, for a robot with two cameras of 224 pixels; built by name inside ``vla serve``."""

import time
from collections.abc import Sequence

import numpy as np

from vla.core.contract import Camera, Contract, Dimension
from vla.core.types import ActionChunk, Observation

BASE_S, EACH_S = 0.02, 0.0005
"""What `Working` takes for a batch, and for each request of it: the shape that a network on an accelerator has."""
_JOINTS = tuple(Dimension(name=f"joint{number}", unit="rad", low=-3.2, high=3.2) for number in range(7))
CONTRACT = Contract(
    robot="bench",
    cameras=tuple(Camera(name=name, height=224, width=224) for name in ("front", "wrist")),
    state=_JOINTS,
    action=_JOINTS,
    control_hz=20.0,
)
CHUNK = np.zeros((16, len(_JOINTS)), np.float32)


class Still:
    """Answers at once with a chunk that stays."""

    @property
    def contract(self) -> Contract:
        """Of the robot above."""
        return CONTRACT

    def reset(self, slot: int) -> None:
        """There is nothing to forget."""

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """The same for all."""
        return [None if seen is None else ActionChunk(actions=CHUNK, time_ns=seen.time_ns) for seen in observations]


class Working:
    """As `Still`, after the time that a network would take."""

    def __init__(self) -> None:
        self._still = Still()

    @property
    def contract(self) -> Contract:
        """Of the robot above."""
        return CONTRACT

    def reset(self, slot: int) -> None:
        """There is nothing to forget."""

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """Sleeps: the work is an accelerator's, and the processor is free meanwhile."""
        time.sleep(cost_s(sum(seen is not None for seen in observations)))
        return self._still.act(observations)


def cost_s(requests: int) -> float:
    """How long `Working` takes for so many."""
    return BASE_S + EACH_S * requests


def request() -> dict[str, object]:
    """What a client of theirs sends."""
    rng = np.random.default_rng(0)
    images = {camera.name: rng.integers(0, 256, camera.shape, np.uint8) for camera in CONTRACT.cameras}
    return {"images": images, "state": np.zeros(len(_JOINTS), np.float32), "prompt": "put the cup on the shelf"}
