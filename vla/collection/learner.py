"""A policy that drives while the expert labels (DAgger: Ross, Gordon, Bagnell, arXiv 1011.0686)."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from vla.core.chunks import Execution
from vla.core.delay import LateChunks, Lateness
from vla.core.errors import ContractError
from vla.core.fit import check_chunk, check_observation, limits
from vla.core.types import Observation, Policy, SeededPolicy

MakePolicy = Callable[[str, Sequence[Any]], Policy]
"""From the name of an environment and the environments that it acts in, of which there is one."""


class Learner:
    """Commands of a policy, one a step: chunks are executed as in an evaluation, and come as late."""

    def __init__(
        self, policy: Policy, *, execute: int | None = None, lateness: Sequence[Lateness] = (Lateness(),)
    ) -> None:
        """Of each chunk ``execute`` steps run before the next inference, by default as many as the policy says.

        Each episode draws one of ``lateness``; any that the policy cannot run under is a `ConfigError`.
        """
        trained = policy.contract.policy
        self._policy = policy
        self._execution = Execution.of(trained, execute=execute)
        self._ways = [(late, late.heard(policy.contract, self._execution)) for late in lateness]
        self._past: deque[Observation] = deque(maxlen=(trained.history if trained else 1) - 1)
        self._low, self._high = limits(policy.contract.action)

    def begin(self, seed: int) -> Lateness:
        """A new episode; how late its answers are."""
        late, told = self._ways[np.random.default_rng([seed, 0x6C617465]).integers(len(self._ways))]
        period_s = 1 / self._policy.contract.control_hz
        self._chunks = LateChunks(self._execution, late, told=told, seed=seed, period_s=period_s)
        self._policy.reset(0)
        if isinstance(self._policy, SeededPolicy):
            self._policy.seed(0, seed)
        self._past.clear()
        return late

    def __call__(self, observation: Observation) -> np.ndarray:
        """float32 (d,): what it would do now, within the limits."""
        with suppress(ContractError):  # a robot that its simulation tore apart is told of when its episode has ended
            observation = check_observation(observation, self._policy.contract, who="the environment")
        if self._chunks.wants_chunk:
            seen = replace(observation, history=tuple(self._past), committed=self._chunks.committed)
            (chunk,) = self._policy.act([seen])
            self._chunks.take(check_chunk(chunk, self._policy.contract, who="the policy's answer"))
        self._past.append(observation)
        return np.clip(self._chunks.command(), self._low, self._high)
