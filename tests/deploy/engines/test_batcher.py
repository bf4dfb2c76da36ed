import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from vla.core.errors import ContractError, ServeError
from vla.core.types import ActionChunk, Observation
from vla.deploy.engines.batcher import Batcher
from vla.deploy.requests import neutral_observation


class GatedPolicy:
    """Answers when the test lets it, with whatever the test wants."""

    def __init__(self, contract, answer=None):
        self.contract = contract
        self.gate = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.calls: list[list[int]] = []
        self.answer = answer

    def reset(self, slot: int) -> None:
        self.calls.append([-slot])

    def act(self, observations):
        self.calls.append([slot for slot, o in enumerate(observations) if o is not None])
        self.entered.release()
        assert self.gate.acquire(timeout=10)
        if self.answer is not None:
            return self.answer(observations)
        return [None if o is None else chunk(o) for o in observations]


def chunk(observation: Observation, actions=None) -> ActionChunk:
    actions = np.zeros((2, 2), np.float32) if actions is None else actions
    return ActionChunk(actions=actions, time_ns=observation.time_ns)


@pytest.fixture
def contract(policy):
    return policy.contract


@pytest.fixture
def seen(contract):
    return neutral_observation(contract)


def test_requests_that_wait_share_one_act(contract, seen):
    policy = GatedPolicy(contract)
    batcher = Batcher(policy, slots=4)
    first = batcher.submit(0, seen, reset=False)
    assert policy.entered.acquire(timeout=10)
    others = [batcher.submit(slot, seen, reset=False) for slot in (3, 1)]
    policy.gate.release(2)
    assert first.result(10).batch_size == 1
    assert [other.result(10).batch_size for other in others] == [2, 2]
    assert policy.calls == [[0], [1, 3]]
    assert batcher.close(10.0)


def test_a_reset_comes_before_the_act_of_its_slot(contract, seen):
    policy = GatedPolicy(contract)
    batcher = Batcher(policy, slots=4)
    policy.gate.release(1)
    assert batcher.submit(2, seen, reset=True).result(10).chunk is not None
    assert batcher.submit(3, None, reset=True).result(10).chunk is None
    assert policy.calls == [[-2], [2], [-3]]
    assert batcher.close(10.0)


def test_a_request_cancelled_while_it_waits_is_not_run(contract, seen):
    policy = GatedPolicy(contract)
    batcher = Batcher(policy, slots=2)
    first = batcher.submit(0, seen, reset=False)
    assert policy.entered.acquire(timeout=10)
    assert batcher.submit(1, seen, reset=True).cancel()
    policy.gate.release(1)
    first.result(10)
    assert batcher.close(10.0)
    assert policy.calls == [[0]]


def test_close_finishes_what_waits_and_reports_a_policy_that_hangs(contract, seen):
    policy = GatedPolicy(contract)
    batcher = Batcher(policy, slots=1)
    waiting = batcher.submit(0, seen, reset=False)
    assert not batcher.close(0.05)
    policy.gate.release(1)
    assert waiting.result(10).chunk is not None
    assert batcher.close(10.0)


def leave(observations):
    raise SystemExit(3)


def refuse(observations):
    raise ContractError("the gripper is missing")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda o: [], "answered 0 of 1 slots"),
        (lambda o: [None], "expected a chunk of actions .*, got none"),
        (lambda o: 3, "failed in act with Type.*Error; the server's log"),
        (
            lambda o: [chunk(o[0], np.zeros((2, 3), np.float32))],
            r"float32 \(horizon, 2\) .*, got float32 \(2, 3\)",
        ),
        (lambda o: [chunk(o[0], np.zeros((0, 2), np.float32))], r"\(0, 2\)"),
        (lambda o: [chunk(o[0], np.full((2, 2), np.inf, np.float32))], "NaN or infinity"),
        (leave, "SystemExit"),
        (refuse, "^the gripper is missing$"),
    ],
)
def test_failures_of_the_policy_reach_the_future_and_the_worker_lives(contract, seen, answer, says):
    policy = GatedPolicy(contract, answer)
    policy.gate.release(2)
    batcher = Batcher(policy, slots=1)
    with pytest.raises(ServeError, match=says):
        batcher.submit(0, seen, reset=False).result(10)
    policy.answer = None
    assert batcher.submit(0, seen, reset=False).result(10).chunk is not None
    assert batcher.close(10.0)


def test_what_one_client_sent_is_refused_to_that_one_alone(contract, seen):
    def picky(observations):
        for observation in observations:
            if observation is not None and len(observation.instruction) > 20:
                raise ContractError("the instruction is too long")
        return [None if o is None else chunk(o) for o in observations]

    policy = GatedPolicy(contract, picky)
    batcher = Batcher(policy, slots=3)
    first = batcher.submit(0, seen, reset=False)
    assert policy.entered.acquire(timeout=10)
    short, long = (
        batcher.submit(slot, replace(seen, instruction=said), reset=False)
        for slot, said in ((1, "go"), (2, "go " * 20))
    )
    policy.gate.release(9)
    assert first.result(10).chunk is not None
    assert short.result(10).batch_size == 1
    with pytest.raises(ServeError, match=r"^the instruction is too long$"):
        long.result(10)
    assert policy.calls == [[0], [1, 2], [1], [2]]
    assert batcher.close(10.0)


def test_a_request_waits_for_those_who_asked_of_late_and_no_longer(contract, seen):
    policy = GatedPolicy(contract)
    policy.gate.release(100)
    batcher = Batcher(policy, slots=4, batch_s=0.4)
    start = time.monotonic()
    assert batcher.submit(0, seen, reset=False).result(10).batch_size == 1  # alone
    assert time.monotonic() - start < 0.3
    assert batcher.submit(1, seen, reset=False).result(10).batch_size == 1  # waited for the first, who asked not
    assert time.monotonic() - start > 0.4
    first = batcher.submit(0, seen, reset=False)
    time.sleep(0.05)
    second = batcher.submit(1, seen, reset=False)
    assert [first.result(10).batch_size, second.result(10).batch_size] == [2, 2]
    assert first.result().queue_ms >= 50
    assert batcher.close(10.0)


def test_a_batch_has_its_size_and_the_longest_waiting_come_first(contract, seen):
    policy = GatedPolicy(contract)
    batcher = Batcher(policy, slots=5, batch=2)
    asked = [batcher.submit(4, seen, reset=False)]
    assert policy.entered.acquire(timeout=10)
    asked += [batcher.submit(slot, seen, reset=False) for slot in (3, 2, 1)]
    policy.gate.release(9)
    assert [answer.result(10).batch_size for answer in asked] == [1, 2, 2, 1]
    assert policy.calls == [[4], [2, 3], [1]]
    assert batcher.close(10.0)


def test_one_that_is_late_is_given_up_and_then_broken(contract, seen):
    policy = GatedPolicy(contract)
    batcher = Batcher(policy, slots=2, inference_s=0.2, start_s=0.2)
    late = batcher.submit(0, seen, reset=False)
    assert policy.entered.acquire(timeout=10)
    behind = batcher.submit(1, seen, reset=False)
    batcher.watch()
    assert batcher.down is None
    time.sleep(0.25)
    batcher.watch()
    for answer in (late, behind):
        with pytest.raises(ServeError, match=r"did not answer within 0\.2 s"):
            answer.result(0)
    with pytest.raises(ServeError, match="did not answer"):
        batcher.submit(1, seen, reset=False)
    assert batcher.broken is None
    time.sleep(0.25)
    batcher.watch()
    assert "cannot be ended" in str(batcher.broken)
    policy.gate.release(1)
    assert batcher.close(10.0)
