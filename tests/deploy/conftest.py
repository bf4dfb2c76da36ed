import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from vla.core.contract import Camera, Contract, Dimension
from vla.core.policy_spec import PolicySpec
from vla.core.types import ActionChunk, Observation
from vla.deploy.serving.server import PolicyServer

HORIZON = 4
CONTRACT = Contract(
    robot="two-link",
    cameras=(Camera(name="front", height=8, width=6), Camera(name="wrist", height=4, width=4)),
    state=tuple(Dimension(name=n, unit="rad", low=-1000.0, high=1000.0) for n in ("shoulder", "elbow", "gripper")),
    action=tuple(Dimension(name=n, unit="rad", low=-1000.0, high=1000.0) for n in ("shoulder", "elbow")),
    signals={"count": (Dimension(name="steps", unit="1", low=0.0, high=1e6),)},
    control_hz=20.0,
    policy=PolicySpec(
        kind="counting",
        horizon=HORIZON,
        execute=HORIZON,
        relative_to=(None, None),
        robots=("two-link",),
        preprocessor="",
        tokenizer="",
        model={},
    ),
)


class CountingPolicy:
    """Row r is state[:2] + r; the signal is how many chunks the slot has got in this episode. Instructions: see act."""

    def __init__(self) -> None:
        self.steps: dict[int, int] = {}
        self.batch_sizes: list[int] = []
        self.seen: list[Observation] = []
        self.long = HORIZON
        self.warm_up_s = 0.0
        self.warm_up_error: Exception | None = None

    @property
    def contract(self) -> Contract:
        return CONTRACT

    def reset(self, slot: int) -> None:
        self.steps[slot] = 0

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        asked = [o for o in observations if o is not None]
        self.batch_sizes.append(len(asked))
        self.seen += asked
        words = {o.instruction for o in asked}
        if "warm up" in words:
            time.sleep(self.warm_up_s)
            if self.warm_up_error is not None:
                raise self.warm_up_error
        if "slow" in words:
            time.sleep(2.0)
        elif "a little slow" in words:
            time.sleep(0.4)
        if "fail" in words:
            raise RuntimeError("secret weights at /srv/weights")
        return [None if o is None else self._chunk(slot, o) for slot, o in enumerate(observations)]

    def _chunk(self, slot: int, observation: Observation) -> ActionChunk:
        self.steps[slot] += 1
        actions = observation.state[None, :2] + np.arange(HORIZON, dtype=np.float32)[:, None]  # (h, d)
        if observation.instruction == "long":
            actions = np.zeros((self.long, 2), np.float32)
        if observation.instruction == "nan":
            actions[1, 1] = np.nan
        if observation.instruction == "wrong shape":
            actions = actions[:, :1]
        signals = {"count": np.array([self.steps[slot]], np.float32)}
        return ActionChunk(actions=actions, time_ns=observation.time_ns, signals=signals)


def observe(prompt: str = "reach", value: float = 0.25) -> dict:
    return {
        "observation/front": np.full((8, 6, 3), 7, np.uint8),
        "observation/wrist": np.full((4, 4, 3), 9, np.uint8),
        "observation/state": np.full(3, value, np.float32),
        "prompt": prompt,
    }


@pytest.fixture
def policy() -> CountingPolicy:
    return CountingPolicy()


@pytest.fixture
def address(policy: CountingPolicy) -> Iterator[str]:
    with PolicyServer(policy, port=0).running() as address:
        yield address


@pytest.fixture
def observation():
    """The function that makes an observation map for the policy."""
    return observe
