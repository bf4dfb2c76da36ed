"""A policy on a thread of this process: the shortest way, for one that does not hang, since no thread can be ended."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue

from vla.core.contract import Contract
from vla.core.errors import VlaError
from vla.core.types import Observation, Policy
from vla.deploy.engines.engine import Chunks, OnAnswered, PolicyFailedError, failure

_Asked = tuple[asyncio.AbstractEventLoop, OnAnswered, Sequence[Observation | None], Sequence[int]]


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

    def act(self, observations: Sequence[Observation | None], resets: Sequence[int], answered: OnAnswered) -> None:
        """On the thread, after whatever it does now."""
        self._asked.put((asyncio.get_running_loop(), answered, observations, resets))

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
            loop, answered, observations, resets = asked
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(answered, self._act(observations, resets))

    def _act(self, observations: Sequence[Observation | None], resets: Sequence[int]) -> Chunks | VlaError:
        doing = "reset"
        try:
            for slot in resets:
                self._policy.reset(slot)
            doing = "act"
            return list(self._policy.act([seen and _own(seen) for seen in observations]))
        except VlaError as error:
            return error
        except BaseException as error:  # also SystemExit: a dead thread would leave every client waiting
            return failure(doing, error)


def _own(seen: Observation) -> Observation:
    """With images that the policy may write into, and keep."""
    return replace(seen, images={name: image.copy() for name, image in seen.images.items()})
