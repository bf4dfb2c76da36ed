"""A second policy beside the first: how far apart they are is counted, and a slow or broken one harms nobody."""

import asyncio
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from tests.deploy.conftest import CountingPolicy
from tests.deploy.policies import ToldPolicy
from vla.core.errors import ServeError
from vla.core.types import ActionChunk, Observation
from vla.deploy.client import PolicyClient
from vla.deploy.engines.engine import Acted
from vla.deploy.engines.policy_thread import PolicyThread
from vla.deploy.limits import Limits
from vla.deploy.recording.shadow import Distances, Shadow, require_comparable
from vla.deploy.serving.server import PolicyServer

Observe = Callable[..., dict[str, Any]]
LIMITS = Limits(clients=2, inference_s=30.0)


class Beside(CountingPolicy):
    """As the first, but half a radian further in the elbow, and as slow as it is told."""

    def __init__(self, sleep_s: float = 0.0) -> None:
        super().__init__()
        self.sleep_s = sleep_s

    def _chunk(self, slot: int, observation: Observation) -> ActionChunk:
        time.sleep(self.sleep_s)
        chunk = super()._chunk(slot, observation)
        return ActionChunk(actions=chunk.actions + np.float32([0.0, 0.5]), time_ns=chunk.time_ns, signals=chunk.signals)


def serve(beside: Any, use: Callable[[str], None], first: Any = None) -> Shadow:
    made: list[Shadow] = []

    def watch(name: str, registry: Any) -> list[Shadow]:
        made.append(Shadow(PolicyThread(beside), name, LIMITS, registry))
        return made

    with PolicyServer(first or CountingPolicy(), port=0, limits=LIMITS, watch=watch).running() as address:
        use(address)
    return made[0]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def metric(address: str, line: str) -> float:
    with urllib.request.urlopen(address.replace("ws://", "http://") + "/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    return next(float(found.rpartition(" ")[2]) for found in lines if found.startswith(line))


def test_how_far_apart_they_are(observation: Observe) -> None:
    beside = Beside()

    def use(address: str) -> None:
        with PolicyClient(address) as client:
            for asked in range(1, 6):
                answer = client.infer({**observation(value=float(asked)), "reset": asked == 4})
                assert answer["actions"][0].tolist() == [asked, asked]  # the first one's
                wait_until(lambda asked=asked: metric(address, "vla_shadow_answers") == asked + 1)  # with the warm-up
            apart = 'vla_shadow_difference{dimension="elbow",of="mean",policy="default"}'
            assert metric(address, apart) == pytest.approx(0.5)

    shadow = serve(beside, use)
    shoulder, elbow = shadow.report()
    assert (shoulder.name, shoulder.largest, shoulder.mean) == ("shoulder", 0.0, 0.0)
    assert (elbow.name, elbow.unit) == ("elbow", "rad")
    assert elbow.largest == pytest.approx(0.5)
    assert elbow.mean == pytest.approx(0.5)
    assert (shadow.dropped, shadow.failed) == (0, 0)
    assert beside.steps[0] == 2  # the fourth began an episode


def test_one_that_is_slow_is_left_behind_and_delays_nobody(observation: Observe) -> None:
    def use(address: str) -> None:
        with PolicyClient(address) as client:
            start = time.monotonic()
            for _ in range(20):
                client.infer(observation())
            assert time.monotonic() - start < 5

    shadow = serve(Beside(sleep_s=1.0), use)
    assert shadow.dropped >= 10


def test_an_episode_that_began_in_a_dropped_request_begins_with_the_next() -> None:
    beside = Beside(sleep_s=0.2)
    seen = Observation(images={}, state=np.zeros(3, np.float32), instruction="reach", time_ns=0)
    chunk = ActionChunk(actions=np.zeros((4, 2), np.float32), time_ns=0)

    async def main() -> None:
        shadow = Shadow(PolicyThread(beside), "first", LIMITS, CollectorRegistry())
        for resets in ((0,), (0,), ()):
            shadow(Acted(digest="", resets=resets, observations=[seen, None], chunks=[chunk, None], seconds=0.0))
            if resets == () or shadow.dropped:
                await asyncio.sleep(0.4)
        assert (shadow.answers, shadow.dropped) == (2, 1)
        await shadow.close()

    asyncio.run(main())
    assert beside.steps[0] == 1


def test_one_that_fails_harms_nobody(observation: Observe) -> None:
    class Failing(Beside):
        def _chunk(self, slot: int, observation: Observation) -> ActionChunk:
            raise RuntimeError

    def use(address: str) -> None:
        with PolicyClient(address) as client:
            client.infer(observation())
            wait_until(lambda: metric(address, "vla_shadow_failed") == 2)
            assert client.infer(observation())["actions"].shape == (4, 2)

    assert serve(Failing(), use).answers == 0


def test_chunks_of_different_lengths_are_compared_where_both_are() -> None:
    distances = Distances(2)
    distances.add(np.zeros((4, 2), np.float32), np.ones((2, 2), np.float32))
    distances.add(np.zeros((1, 2), np.float32), np.array([[0.0, 4.0]], np.float32))
    assert distances.largest.tolist() == [1.0, 4.0]
    assert distances.mean.tolist() == [2 / 3, 2.0]


def test_another_robot_cannot_be_compared() -> None:
    first, other = PolicyThread(CountingPolicy()), PolicyThread(ToldPolicy())
    with pytest.raises(ServeError, match=r"the shadow is of another robot: .*cameras"):
        require_comparable(first, other)
    for engine in (first, other):
        engine.close()
