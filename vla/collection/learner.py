"""A policy that drives while the expert labels (DAgger: Ross, Gordon, Bagnell, arXiv 1011.0686)."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vla.core.chunks import ChunkBuffer, Execution
from vla.core.fit import check_chunk, limits
from vla.core.types import Observation, Policy, SeededPolicy

MakePolicy = Callable[[str, Sequence[Any]], Policy]
"""From the name of an environment and the environments that it acts in, of which there is one."""


class Learner:
    """Commands of a policy, one a step: chunks are executed as in an evaluation."""

    def __init__(self, policy: Policy) -> None:
        trained = policy.contract.policy
        self._policy = policy
        self._execution = Execution.of(trained)
        self._past: deque[Observation] = deque(maxlen=(trained.history if trained else 1) - 1)
        self._low, self._high = limits(policy.contract.action)
        self._buffer = ChunkBuffer(self._execution)

    def begin(self, seed: int) -> None:
        """A new episode."""
        self._policy.reset(0)
        if isinstance(self._policy, SeededPolicy):
            self._policy.seed(0, seed)
        self._past.clear()
        self._buffer = ChunkBuffer(self._execution)

    def __call__(self, observation: Observation) -> np.ndarray:
        """float32 (d,): what it would do now, within the limits."""
        if self._buffer.wants_chunk:
            (chunk,) = self._policy.act([replace(observation, history=tuple(self._past))])
            self._buffer.add(check_chunk(chunk, self._policy.contract, who="the policy's answer"))
        self._past.append(observation)
        return np.clip(self._buffer.pop(), self._low, self._high)
