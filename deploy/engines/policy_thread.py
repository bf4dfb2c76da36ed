"""A policy on a thread of this process: the shortest way, for one that does not hang, since no thread can be ended."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue

from vla.core.contract import Contract
from vla.core.errors import VlaError
from vla.core.types import ActionChunk, Observation, Policy
from vla.deploy.engines.engine import PolicyFailedError, failure

_Asked = tuple[
    asyncio.AbstractEventLoop,
    "asyncio.Future[Sequence[ActionChunk | None]]",
    Sequence[Observation | None],
    Sequence[int],
]


class PolicyThread:
    """Implements `vla.deploy.engines.engine.Engine` by a policy that lives here."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        # A daemon, so that a policy that hangs cannot keep the process alive after `close`.
        self._thread = threading.Thread(target=self._run, name="vla-policy", daemon=True)
        self._thread.start()

    @property
    def contract(self) -> Contract:
        """That of the policy."""
        return self._policy.contract

    @property
    def digest(self) -> str:
        """That of its contract."""
        return self._policy.contract.digest()

    async def act(
        self, observations: Sequence[Observation | None], resets: Sequence[int]
    ) -> Sequence[ActionChunk | None]:
        """On the thread, after whatever it does now."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[ActionChunk | None]] = loop.create_future()
        self._asked.put((loop, answer, observations, resets))
        return await answer

    def kill(self) -> bool:
        """No thread can be ended."""
        return False

    async def restart(self) -> None:
        """Nor begun anew."""
        raise PolicyFailedError("a policy on a thread cannot be begun anew; serve it from a process")

    def close(self) -> None:
        """The thread ends when the policy returns."""
        self._asked.put(None)

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            loop, answer, observations, resets = asked
            doing, result = "reset", None
            error: VlaError | None = None
            try:
                for slot in resets:
                    self._policy.reset(slot)
                doing = "act"
                result = list(self._policy.act(observations))
            except VlaError as said:
                error = said
            except BaseException as fault:  # also SystemExit: a dead thread would leave every client waiting
                error = failure(doing, fault)
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_settle, answer, result, error)


def _settle(
    answer: "asyncio.Future[Sequence[ActionChunk | None]]",
    result: list | None,
    error: VlaError | None,
) -> None:
    if answer.done():  # nobody waits for it any more
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result or [])  # of whatever it is: the batcher looks at it
