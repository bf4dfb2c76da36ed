"""Who shares an inference, in which order, and what becomes of a policy that fails or does not answer."""

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.deploy.engines.conftest import Run
from vla.core.contract import Contract
from vla.core.errors import ContractError, ServeError
from vla.core.types import ActionChunk, Observation
from vla.deploy.engines.batcher import Batcher
from vla.deploy.engines.engine import Acted, UnavailableError
from vla.deploy.engines.policy_thread import PolicyThread
from vla.deploy.engines.work import Answer
from vla.deploy.requests import neutral_observation


class GatedPolicy:
    """Answers when the test lets it, with whatever the test wants."""

    def __init__(self, contract: Contract, answer: Any = None) -> None:
        self.contract = contract
        self.gate = threading.Semaphore(0)
        self.calls: list[list[int]] = []
        self.answer = answer

    def reset(self, slot: int) -> None:
        self.calls.append([-slot])

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        self.calls.append([slot for slot, o in enumerate(observations) if o is not None])
        assert self.gate.acquire(timeout=10)
        if self.answer is not None:
            return self.answer(observations)  # type: ignore[no-any-return]
        return [None if o is None else chunk(o) for o in observations]

    async def entered(self, calls: int) -> None:
        deadline = time.monotonic() + 10
        while len(self.calls) < calls:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)


def chunk(observation: Observation, actions: np.ndarray | None = None) -> ActionChunk:
    actions = np.zeros((2, 2), np.float32) if actions is None else actions
    return ActionChunk(actions=actions, time_ns=observation.time_ns)


@pytest.fixture
def contract(policy: Any) -> Contract:
    found: Contract = policy.contract
    return found


@pytest.fixture
def seen(contract: Contract) -> Observation:
    return neutral_observation(contract)


@asynccontextmanager
async def batching(policy: GatedPolicy, slots: int, **settings: Any) -> Any:
    batcher = Batcher(PolicyThread(policy), slots, **settings)
    try:
        yield batcher
    finally:
        policy.gate.release(100)
        assert await batcher.close(10.0)


async def answered(*answers: "asyncio.Future[Answer]") -> list[Answer]:
    return list(await asyncio.wait_for(asyncio.gather(*answers), 10))


def test_requests_that_wait_share_one_act(run: Run, contract: Contract, seen: Observation) -> None:
    policy = GatedPolicy(contract)

    async def main() -> None:
        async with batching(policy, 4) as batcher:
            first = batcher.submit(0, seen, reset=False)
            await policy.entered(1)
            others = [batcher.submit(slot, seen, reset=False) for slot in (3, 1)]
            policy.gate.release(2)
            assert [answer.batch_size for answer in await answered(first, *others)] == [1, 2, 2]
            assert policy.calls == [[0], [1, 3]]

    run(main())


def test_a_reset_comes_before_the_next_act_of_its_slot(run: Run, contract: Contract, seen: Observation) -> None:
    policy = GatedPolicy(contract)
    policy.gate.release(3)

    async def main() -> None:
        async with batching(policy, 4) as batcher:
            assert (await answered(batcher.submit(2, seen, reset=True)))[0].chunk is not None
            assert (await answered(batcher.submit(3, None, reset=True)))[0].chunk is None
            assert policy.calls == [[-2], [2]]
            await answered(batcher.submit(3, seen, reset=False))
            await answered(batcher.submit(3, seen, reset=False))
            assert policy.calls == [[-2], [2], [-3], [3], [3]]

    run(main())


def test_a_reset_outlives_an_inference_that_fails(run: Run, contract: Contract, seen: Observation) -> None:
    policy = GatedPolicy(contract, refuse)
    policy.gate.release(2)

    async def main() -> None:
        async with batching(policy, 1) as batcher:
            with pytest.raises(ServeError):
                await answered(batcher.submit(0, seen, reset=True))
            policy.answer = None
            await answered(batcher.submit(0, seen, reset=False))
            assert policy.calls == [[0], [0], [0], [0]]  # -0: the reset comes twice

    run(main())


def test_a_request_cancelled_while_it_waits_is_not_run(run: Run, contract: Contract, seen: Observation) -> None:
    policy = GatedPolicy(contract)

    async def main() -> None:
        async with batching(policy, 2) as batcher:
            first = batcher.submit(0, seen, reset=False)
            await policy.entered(1)
            batcher.submit(1, seen, reset=True).cancel()
            policy.gate.release(1)
            await answered(first)
        assert policy.calls == [[0]]

    run(main())


def test_close_finishes_what_waits_and_reports_a_policy_that_hangs(
    run: Run, contract: Contract, seen: Observation
) -> None:
    async def main() -> None:
        policy = GatedPolicy(contract)
        policy.gate.release(1)
        batcher = Batcher(PolicyThread(policy), 1)
        waiting = batcher.submit(0, seen, reset=False)
        assert await batcher.close(10.0)
        assert waiting.result().chunk is not None
        policy = GatedPolicy(contract)
        batcher = Batcher(PolicyThread(policy), 1)
        waiting = batcher.submit(0, seen, reset=False)
        assert not await batcher.close(0.05)
        with pytest.raises(ServeError, match="the server stops"):
            waiting.result()
        policy.gate.release(1)

    run(main())


def leave(observations: Any) -> Any:
    raise SystemExit(3)


def stop(observations: Any) -> Any:
    raise StopIteration


def refuse(observations: Any) -> Any:
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
        (stop, "StopIteration"),
        (refuse, "^the gripper is missing$"),
    ],
)
def test_failures_of_the_policy_reach_the_future_and_the_thread_lives(
    run: Run, contract: Contract, seen: Observation, answer: Any, says: str
) -> None:
    policy = GatedPolicy(contract, answer)
    policy.gate.release(2)

    async def main() -> None:
        async with batching(policy, 1) as batcher:
            with pytest.raises(ServeError, match=says):
                await answered(batcher.submit(0, seen, reset=False))
            policy.answer = None
            assert (await answered(batcher.submit(0, seen, reset=False)))[0].chunk is not None

    run(main())


def test_what_one_client_sent_is_refused_to_that_one_alone(run: Run, contract: Contract, seen: Observation) -> None:
    def picky(observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        for observation in observations:
            if observation is not None and len(observation.instruction) > 20:
                raise ContractError("the instruction is too long")
        return [None if o is None else chunk(o) for o in observations]

    policy = GatedPolicy(contract, picky)

    async def main() -> None:
        async with batching(policy, 3) as batcher:
            first = batcher.submit(0, seen, reset=False)
            await policy.entered(1)
            short, long = (
                batcher.submit(slot, replace(seen, instruction=said), reset=False)
                for slot, said in ((1, "go"), (2, "go " * 20))
            )
            policy.gate.release(9)
            assert [answer.batch_size for answer in await answered(first, short)] == [1, 1]
            with pytest.raises(ServeError, match=r"^the instruction is too long$"):
                await answered(long)
            assert policy.calls == [[0], [1, 2], [1], [2]]

    run(main())


def test_who_would_miss_an_inference_by_a_moment_is_waited_for(run: Run, contract: Contract, seen: Observation) -> None:
    def work(observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        time.sleep(0.2)
        return [None if o is None else chunk(o) for o in observations]

    async def client(batcher: Batcher, slot: int, pause_s: float, sizes: list[int]) -> None:
        for _ in range(8):
            (answer,) = await answered(batcher.submit(slot, seen, reset=False))
            sizes.append(answer.batch_size)
            await asyncio.sleep(pause_s)

    async def main() -> None:
        policy = GatedPolicy(contract, work)
        policy.gate.release(100)
        async with batching(policy, 4, batch_s=1.0) as batcher:
            alone = time.monotonic()
            (answer,) = await answered(batcher.submit(2, seen, reset=False))
            assert answer.queue_ms < 20  # for nobody
            assert time.monotonic() - alone < 0.4
            quick, quick_too = list[int](), list[int]()
            await asyncio.gather(client(batcher, 0, 0.01, quick), client(batcher, 1, 0.02, quick_too))
            assert sum(quick + quick_too) >= 24  # once each has paused; without waiting all would be alone, 16
            await asyncio.sleep(0.1)
            (answer,) = await answered(batcher.submit(3, seen, reset=False))
            assert answer.queue_ms < 20  # those who are long overdue are waited for no more

    run(main())


def test_a_batch_has_its_size_and_the_longest_waiting_come_first(
    run: Run, contract: Contract, seen: Observation
) -> None:
    policy = GatedPolicy(contract)

    async def main() -> None:
        async with batching(policy, 5, batch=2) as batcher:
            asked = [batcher.submit(4, seen, reset=False)]
            await policy.entered(1)
            asked += [batcher.submit(slot, seen, reset=False) for slot in (3, 2, 1)]
            policy.gate.release(9)
            assert [answer.batch_size for answer in await answered(*asked)] == [1, 2, 2, 1]
            assert policy.calls == [[4], [2, 3], [1]]

    run(main())


def test_one_that_is_late_is_given_up_and_then_broken(run: Run, contract: Contract, seen: Observation) -> None:
    policy = GatedPolicy(contract)

    async def main() -> None:
        async with batching(policy, 2, inference_s=0.2, start_s=0.2) as batcher:
            late = batcher.submit(0, seen, reset=False)
            await policy.entered(1)
            behind = batcher.submit(1, seen, reset=False)
            assert batcher.down is None
            await asyncio.sleep(0.25)
            for answer in (late, behind):
                assert answer.done()
                with pytest.raises(ServeError, match=r"did not answer within 0\.2 s"):
                    answer.result()
            with pytest.raises(ServeError, match="did not answer"):
                batcher.submit(1, seen, reset=False)
            assert batcher.broken is None
            await asyncio.sleep(0.25)
            assert "cannot be ended" in str(batcher.broken)

    run(main())


def test_a_successor_takes_over_between_batches_and_has_seen_nothing(
    run: Run, contract: Contract, seen: Observation
) -> None:
    old, new = GatedPolicy(contract), GatedPolicy(contract)
    new.gate.release(9)

    async def main() -> None:
        async with batching(old, 3) as batcher:
            first = batcher.submit(1, seen, reset=True)
            await old.entered(2)
            waiting = batcher.submit(2, seen, reset=False)
            exchanged = batcher.exchange(PolicyThread(new))
            old.gate.release(1)
            assert [answer.version for answer in await answered(first, waiting)] == [1, 2]
            await exchanged
            assert (await answered(batcher.submit(1, seen, reset=False)))[0].version == 2
            assert (await answered(batcher.submit(1, seen, reset=False)))[0].version == 2
        assert old.calls == [[-1], [1]]
        assert new.calls == [[-2], [2], [-1], [1], [1]]

    run(main())


def test_a_queue_has_an_end(run: Run, contract: Contract, seen: Observation) -> None:
    policy = GatedPolicy(contract)

    async def main() -> None:
        async with batching(policy, 4, queue=2) as batcher:
            asked = [batcher.submit(0, seen, reset=False)]
            await policy.entered(1)
            asked += [batcher.submit(slot, seen, reset=False) for slot in (1, 2)]
            with pytest.raises(UnavailableError, match="2 requests wait for the policy already; try again soon"):
                batcher.submit(3, seen, reset=False)
            policy.gate.release(9)
            await answered(*asked)

    run(main())


def test_who_watches_hears_of_every_batch_after_its_answers(run: Run, contract: Contract, seen: Observation) -> None:
    policy, heard = GatedPolicy(contract), list[Acted]()
    policy.gate.release(3)

    async def main() -> None:
        async with batching(policy, 2, on_acted=heard.append) as batcher:
            await answered(batcher.submit(1, seen, reset=True))
            policy.answer = refuse
            with suppress(ServeError):
                await answered(batcher.submit(0, seen, reset=False))

    run(main())
    assert [(acted.size, acted.resets, acted.error) for acted in heard] == [
        (1, (1,), ""),
        (1, (), "the gripper is missing"),
    ]
    assert heard[0].chunks[1] is not None
    assert heard[0].digest == contract.digest()
