"""A policy that drives while the expert labels (DAgger: Ross, Gordon, Bagnell, arXiv 1011.0686)."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vla.core.chunks import Execution
from vla.core.delay import LateChunks, Lateness
from vla.core.fit import check_chunk, limits
from vla.core.types import Observation, Policy, SeededPolicy

MakePolicy = Callable[[str, Sequence[Any]], Policy]
"""From the name of an environment and the environments that it acts in, of which there is one."""


class Learner:
    """Commands of a policy, one a step: chunks are executed as in an evaluation, and come as late."""

    def __init__(self, policy: Policy, *, execute: int | None = None) -> None:
        """Of each chunk ``execute`` steps run before the next inference; by default what the policy says."""
        trained = policy.contract.policy
        self._policy = policy
        self._execution = Execution.of(trained, execute=execute)
        self._past: deque[Observation] = deque(maxlen=(trained.history if trained else 1) - 1)
        self._low, self._high = limits(policy.contract.action)

    def begin(self, seed: int, lateness: Lateness | None = None) -> None:
        """A new episode, whose answers are late as ``lateness`` says, by default not at all."""
        late, contract = lateness or Lateness(), self._policy.contract
        self._chunks = LateChunks(
            self._execution,
            late,
            told=late.heard(contract, self._execution),
            seed=seed,
            period_s=1 / contract.control_hz,
        )
        self._policy.reset(0)
        if isinstance(self._policy, SeededPolicy):
            self._policy.seed(0, seed)
        self._past.clear()

    def __call__(self, observation: Observation) -> np.ndarray:
        """float32 (d,): what it would do now, within the limits."""
        if self._chunks.wants_chunk:
            seen = replace(observation, history=tuple(self._past), committed=self._chunks.committed)
            (chunk,) = self._policy.act([seen])
            self._chunks.take(check_chunk(chunk, self._policy.contract, who="the policy's answer"))
        self._past.append(observation)
        return np.clip(self._chunks.command(), self._low, self._high)
