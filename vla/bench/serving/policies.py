"""Policies of known cost, for robots with two cameras; built by name inside ``vla serve``."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vla.core.contract import Camera, Contract, Dimension
from vla.core.policy_spec import PolicySpec
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
HZ_VARIABLE = "VLA_BENCH_HZ"
"""Of the environment: how many commands a second `Swinging` plans."""
_SPEC = PolicySpec(
    kind="none", horizon=16, execute=4, committed=6, relative_to=(None,) * len(_JOINTS), robots=(CONTRACT.robot,),
    preprocessor="", tokenizer="", model={},
)  # fmt: skip


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


class Swinging:
    """From where the arm is to slow waves, which jump every few seconds as no arm should; costs next to nothing.

    It looks at both pictures, of 128 pixels, and goes on from what is decided.
    """

    def __init__(self) -> None:
        self.contract = replace(swinging(float(os.environ[HZ_VARIABLE])), policy=_SPEC)

    def reset(self, slot: int) -> None:
        """There is nothing to forget."""

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """A chunk each."""
        return [None if seen is None else self._chunk(seen) for seen in observations]

    def _chunk(self, seen: Observation) -> ActionChunk:
        light = sum(float(image.mean()) for image in seen.images.values()) / 1e6
        steps = np.arange(_SPEC.horizon)[:, None]  # (h, 1)
        time_s = seen.time_ns / 1e9 + steps / self.contract.control_hz
        waves = 0.5 * np.sin(time_s * np.linspace(0.3, 1.2, len(_JOINTS))) + (time_s % 5 > 4) + light  # (h, d)
        actions = seen.state + (waves - seen.state) * (steps + 1) / _SPEC.horizon
        if seen.committed is not None:
            actions[: len(seen.committed)] = seen.committed
        return ActionChunk(actions=actions.astype(np.float32), time_ns=seen.time_ns)


def swinging(hz: float) -> Contract:
    """The robot that `Swinging` drives."""
    cameras = tuple(replace(camera, height=128, width=128) for camera in CONTRACT.cameras)
    return replace(CONTRACT, cameras=cameras, control_hz=hz)


def cost_s(requests: int) -> float:
    """How long `Working` takes for so many."""
    return BASE_S + EACH_S * requests


def request() -> dict[str, object]:
    """What a client of theirs sends."""
    rng = np.random.default_rng(0)
    images = {camera.name: rng.integers(0, 256, camera.shape, np.uint8) for camera in CONTRACT.cameras}
    return {"images": images, "state": np.zeros(len(_JOINTS), np.float32), "prompt": "put the cup on the shelf"}
