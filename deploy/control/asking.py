"""Asking a policy without waiting for it: one question at a time, from a thread of its own."""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from vla.core.errors import RobotError
from vla.core.types import ActionChunk, Observation, Policy
from vla.deploy.control.realtime import unbound
from vla.deploy.engines.engine import Engine, PolicyDiedError, ask

_MOST_DEATHS = 3
"""In a row, after which a policy is begun anew once more: what ends at each question has a fault of its own."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What was asked, and when."""

    observation: Observation
    step: int
    """The one whose command the observation is for."""
    looked_s: float
    """When the observation was taken, on the monotonic clock."""
    episode: int = 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a question: a chunk, or the error that was raised."""

    question: Question
    chunk: ActionChunk | None
    error: Exception | None
    took_s: float
    answered_s: float
    """On the monotonic clock."""


class Asking:
    """Owns the policy from then on; one that never comes back holds up nobody but itself.

    An engine, such as a policy in a process of its own, is ended when it takes longer than ``patience_s``, and begun
    anew when it has died.
    """

    def __init__(self, policy: Policy | Engine, *, patience_s: float = 10.0) -> None:
        self._policy, self._patience_s = policy, patience_s
        self._since_s = 0.0
        self._question: Question | None = None
        self._answer: Answer | None = None
        self._resets = False
        self._asked, self._answered = threading.Event(), threading.Event()
        self._closed = False
        self._deaths = 0
        """Without an answer in between."""
        self.reviving = False
        """Whether an engine that has died is being begun anew."""
        threading.Thread(target=self._work, name="vla-asking", daemon=True).start()

    @property
    def busy(self) -> bool:
        """Whether a question has no answer yet."""
        return self._question is not None

    def ask(self, question: Question, *, reset: bool = False) -> None:
        """Put it; with ``reset`` a new episode begins with it. One before it must have been answered."""
        assert not self.busy, "one question at a time"
        self._answered.clear()
        self._since_s = time.monotonic()
        self._resets, self._question = reset, question
        self._asked.set()

    def poll(self, wait_s: float = 0.0) -> Answer | None:
        """The answer, if it is there or comes within ``wait_s``; each is given once."""
        if not self.busy:
            return None
        slow = time.monotonic() - self._since_s > max(wait_s, self._patience_s)
        if slow and isinstance(self._policy, Engine) and not self._answered.is_set():
            self._since_s = float("inf")  # ended once
            self._policy.kill()
        if not (self._answered.is_set() or (wait_s > 0 and self._answered.wait(wait_s))):
            return None
        answer, self._question, self._answer = self._answer, None, None
        return answer

    def close(self) -> None:
        """Ask nothing more; an answer that is on its way is not waited for."""
        self._closed = True
        self._asked.set()

    def _work(self) -> None:
        unbound()
        with asyncio.Runner() as runner:
            while True:
                self._asked.wait()
                self._asked.clear()
                if self._closed:
                    return
                question = self._question
                assert question is not None, "it was put before the event"
                began, chunk, error = time.monotonic(), None, None
                try:
                    (chunk,) = self._act(question.observation, runner)
                    self._deaths = 0
                except Exception as caught:  # said to whoever asked
                    error = self._revived(caught, runner)
                now = time.monotonic()
                self._answer = Answer(question=question, chunk=chunk, error=error, took_s=now - began, answered_s=now)
                self._answered.set()

    def _act(self, seen: Observation, runner: asyncio.Runner) -> Sequence[ActionChunk | None]:
        if isinstance(self._policy, Engine):
            return runner.run(ask(self._policy, [seen], [0] if self._resets else []))
        if self._resets:
            self._policy.reset(0)
        return self._policy.act([seen])

    def _revived(self, error: Exception, runner: asyncio.Runner) -> Exception:
        """Begin an engine that has died anew; what to say of it all."""
        if isinstance(error, PolicyDiedError) and isinstance(self._policy, Engine):
            self._deaths += 1
            if self._deaths > _MOST_DEATHS:
                return RobotError(f"the policy ended {self._deaths} times without an answer ({error}); see its output")
            self.reviving, self._since_s = True, float("inf")  # the one that comes back was not asked this
            try:
                runner.run(self._policy.restart())
            except Exception as worse:
                return worse
            finally:
                self.reviving = False
        return error
