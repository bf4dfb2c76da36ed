"""What an event loop asks for chunks: a policy on a thread, in a child, or on other machines; one batch at a time."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from vla.core.contract import Contract
from vla.core.errors import ServeError, VlaError
from vla.core.types import ActionChunk, Observation, Policy

_log = logging.getLogger(__name__)


class UnavailableError(ServeError):
    """The policy cannot be asked now."""


class OverdueError(UnavailableError):
    """The policy did not answer in time."""


class PolicyFailedError(ServeError):
    """The policy raised what was not written for users, or answered what is no answer."""


class PolicyDiedError(UnavailableError):
    """The policy is gone, and must be begun anew."""


Chunks = Sequence[ActionChunk | None]
OnAnswered = Callable[[Chunks | VlaError], None]
"""Gets a chunk for each observation, or a line that says why there are none."""


@runtime_checkable
class Engine(Protocol):
    """A policy behind an event loop, which never waits for it."""

    @property
    def contract(self) -> Contract:
        """That of the policy."""

    @property
    def digest(self) -> str:
        """What tells one version of the policy from the next."""

    def act(self, observations: Sequence[Observation | None], resets: Sequence[int], answered: OnAnswered) -> None:
        """Begin new episodes in the slots ``resets``, then answer the observations, one batch at a time.

        The running event loop calls ``answered``, at once if it must.
        """

    def kill(self) -> bool:
        """End the policy: what it was asked is answered `PolicyDiedError`. False if it cannot be ended."""

    async def restart(self) -> None:
        """Begin a policy anew that is gone, with nothing known of any slot; `VlaError` if it does not come back."""

    def close(self) -> None:
        """Let go of the policy; harmless a second time."""


@dataclass(frozen=True, kw_only=True)
class Acted:
    """One batch that a policy was asked, and what became of it."""

    digest: str
    """Of the policy."""
    resets: tuple[int, ...]
    observations: Sequence[Observation | None]
    chunks: Chunks
    """As the policy gave them; none if it failed."""
    error: str = ""
    """Why it failed, if it did."""
    died: bool = False
    """Whether it is gone."""
    seconds: float

    @property
    def size(self) -> int:
        """Requests of the batch."""
        return sum(seen is not None for seen in self.observations)


OnActed = Callable[[Acted], None]


async def ask(engine: Engine, observations: Sequence[Observation | None], resets: Sequence[int] = ()) -> Chunks:
    """What it answers, awaited; `VlaError` is raised."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Chunks | VlaError] = loop.create_future()

    def settle(answer: Chunks | VlaError) -> None:
        if not done.done():
            done.set_result(answer)

    engine.act(observations, resets, settle)
    answer = await done
    if isinstance(answer, VlaError):
        raise answer
    return answer


def failure(doing: str, error: BaseException) -> ServeError:
    """What is said of ``error``, which a policy raised; the log has the rest."""
    if isinstance(error, VlaError):  # written for users; anything else may hold paths or data of the server
        _log.info("%s", error)
        return error if isinstance(error, ServeError) else ServeError(str(error))
    _log.error("the policy failed in %s", doing, exc_info=error)
    return PolicyFailedError(
        f"the policy failed in {doing} with {type(error).__name__}; the server's log has the details"
    )


def chunks_of(
    policy: Policy, observations: Sequence[Observation | None], resets: Sequence[int]
) -> tuple[Literal["done", "refused", "failed"], Any]:
    """What a policy answers, as a process tells another: ``done`` and a chunk for each observation, or why not.

    `SystemExit` is not caught: it ends the process, and with it the episode of everybody.
    """
    try:
        for slot in resets:
            policy.reset(slot)
        chunks = list(policy.act(observations))
        if len(chunks) != len(observations):
            said = f"the policy answered {len(chunks)} of {len(observations)} slots; it must answer all, in order"
            return "failed", said
        return "done", chunks
    except VlaError as error:
        return "refused", str(error)
    except Exception as error:
        _log.exception("the policy failed")
        return "failed", f"the policy failed in act with {type(error).__name__}; the server's log has the details"
