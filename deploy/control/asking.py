"""Asking a policy without waiting for it: one question at a time, from a thread of its own."""

import threading
import time
from collections import deque
from dataclasses import dataclass

from vla.core.types import ActionChunk, Observation, Policy
from vla.deploy.batcher import PolicyDiedError, RestartablePolicy

_REMEMBERED = 10


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
    """Owns the policy from then on; a policy that never comes back holds up nobody but itself.

    One that can be begun anew is, when it has died, or has taken longer than ``patience_s``.
    """

    def __init__(self, policy: Policy, *, patience_s: float = 10.0) -> None:
        self._policy, self._patience_s = policy, patience_s
        self._since_s = 0.0
        self._question: Question | None = None
        self._answer: Answer | None = None
        self._resets = False
        self._asked, self._answered = threading.Event(), threading.Event()
        self._closed = False
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
        if self.busy and time.monotonic() - self._since_s > self._patience_s:
            self._since_s = float("inf")  # ended once
            if isinstance(self._policy, RestartablePolicy):
                self._policy.kill()
        if not self.busy or not (self._answered.is_set() or (wait_s > 0 and self._answered.wait(wait_s))):
            return None
        answer, self._question, self._answer = self._answer, None, None
        return answer

    def close(self) -> None:
        """Ask nothing more; an answer that is on its way is not waited for."""
        self._closed = True
        self._asked.set()

    def _work(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._closed:
                return
            question = self._question
            assert question is not None, "it was put before the event"
            began, chunk, error = time.monotonic(), None, None
            try:
                if self._resets:
                    self._policy.reset(0)
                (chunk,) = self._policy.act([question.observation])
            except Exception as caught:  # said to whoever asked
                error = self._revived(caught)
            now = time.monotonic()
            self._answer = Answer(question=question, chunk=chunk, error=error, took_s=now - began, answered_s=now)
            self._answered.set()

    def _revived(self, error: Exception) -> Exception:
        """Begin a policy that has died anew; what to say of it all."""
        if isinstance(error, PolicyDiedError) and isinstance(self._policy, RestartablePolicy):
            try:
                self._policy.restart()
            except Exception as worse:
                return worse
        return error


class Delay:
    """How many steps go by between an observation and the first command that rests on it."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def measured(self, seconds: float) -> None:
        """One more; what a first inference takes does not belong here."""
        self._seconds.append(seconds)

    @property
    def steps(self) -> int:
        """To count on: the longest of the last ones, and at least one."""
        longest = max(self._seconds, default=0.0)
        return max(1, -(-int(longest * 1e9) // int(self._period_s * 1e9)))
