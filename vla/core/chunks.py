"""From chunks to one command a step: how many steps of a chunk run before the policy is asked again."""

import itertools
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from vla.core.errors import ConfigError, ContractError
from vla.core.policy_spec import PolicySpec
from vla.core.types import ActionChunk


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How chunks are executed.

    ``execute`` steps of each chunk run before a new one is wanted; None runs it to its end. With ``ensemble`` > 0, a
    step's command is the mean over all chunks that cover it, a chunk that is ``k`` requests old weighted by
    ``ensemble ** k`` (temporal ensembling, arXiv 2304.13705, with the newest weighted most).
    """

    execute: int | None = None
    ensemble: float = 0.0

    def __post_init__(self) -> None:
        if (self.execute is not None and self.execute < 1) or not 0 <= self.ensemble <= 1:
            raise ConfigError(f"execute={self.execute} must be at least 1 and ensemble={self.ensemble} between 0 and 1")

    @staticmethod
    def of(spec: PolicySpec | None, *, execute: int | None = None, ensemble: float | None = None) -> "Execution":
        """What is asked for; else what the policy was made for; else whole chunks.

        More steps than the policy's chunks have are a `ConfigError`.
        """
        if execute is not None:
            asked = Execution(execute=execute)
            if spec:
                asked.require_within(spec.horizon)
        return Execution(
            execute=execute or (spec.execute if spec else None),
            ensemble=ensemble if ensemble is not None else spec.ensemble if spec else 0.0,
        )

    def require_within(self, horizon: int, latency: int = 0) -> None:
        """`ConfigError` unless a chunk of ``horizon`` steps lasts until the next is there, ``latency`` steps late."""
        if (self.execute or 1) + latency <= horizon:
            return
        if not latency:
            raise ConfigError(
                f"execute={self.execute} is more than the {horizon} steps of a chunk; give --execute {horizon}"
            )
        raise ConfigError(
            f"latency_steps={latency} and execute={self.execute} are more than the {horizon} steps of a chunk, which "
            f"would end before the next is there; give --execute {max(1, horizon - latency)}"
        )

    def __str__(self) -> str:
        steps = "whole chunks" if self.execute is None else f"{self.execute} step{'s' if self.execute > 1 else ''}"
        return f"{steps}, ensembled {self.ensemble:g}" if self.ensemble else steps


class _Pending(NamedTuple):
    start: int
    """Step of the first action: that of the observation."""
    begins: int
    """Step from which the chunk is there, and runs."""
    chunk: ActionChunk


class ChunkBuffer:
    """The pending actions of one episode.

    With a ``latency``, a chunk runs from so many steps after the one that it was asked for at, and until then those
    before it do; for the first one everybody waits.
    """

    def __init__(self, execution: Execution, *, latency: int = 0) -> None:
        if latency < 0:
            raise ConfigError(f"latency={latency} must be at least 0")
        self._execute, self._ensemble, self.latency = execution.execute, execution.ensemble, latency
        self._chunks: deque[_Pending] = deque()  # newest first
        self.step = 0
        """The one that comes next."""

    @property
    def wants_chunk(self) -> bool:
        """Whether a new chunk is due before the next command."""
        if not self._chunks:
            return True
        newest = self._chunks[0]
        last = len(newest.chunk.actions) - self.latency
        return self.step - newest.start >= min(self._execute or last, last)

    def add(self, chunk: ActionChunk, *, asked: int | None = None, committed: int | None = None) -> None:
        """Take a chunk that was asked for at the step ``asked``, by default the next, to run behind ``committed`` more.

        Of one that comes late, the steps that are over are dropped and no others. Nothing of it left is a
        `ContractError`.
        """
        start = self.step if asked is None else asked
        behind = self.latency if committed is None else committed
        begins = max(self.step, start + behind if self._chunks else start)
        if max(begins, start + behind) >= start + len(chunk.actions):
            late = max(begins - start, behind)
            raise ContractError(
                f"a chunk of {len(chunk.actions)} steps ends before one that is asked for now begins, {late} "
                "steps later; use a policy with a longer horizon, or a shorter latency"
            )
        self._chunks.appendleft(_Pending(start, begins, chunk))

    def ahead(self, steps: int) -> Float32[np.ndarray, "k d"] | None:
        """The commands of the next ``steps`` steps, as far as they are decided; None where none is."""
        coming = itertools.takewhile(self._running, range(self.step, self.step + steps))
        decided = [self._command(step) for step in coming]
        return np.stack(decided) if decided else None

    @property
    def committed(self) -> Float32[np.ndarray, "k d"] | None:
        """The commands of the next ``latency`` steps, whatever is added now; None where none is decided."""
        return self.ahead(self.latency)

    @property
    def empty(self) -> bool:
        """Whether nothing is decided of the next step."""
        return not self._running(self.step)

    @property
    def clipped(self) -> bool:
        """Whether the command of this step was brought inside of the limits in any chunk that it is made of."""
        return any(self.step - item.start in item.chunk.clipped for item in self._running(self.step))

    @property
    def time_ns(self) -> int:
        """When what the next command rests on was seen, by the clock of its observation."""
        return self._running(self.step)[0].chunk.time_ns

    def pop(self) -> Float32[np.ndarray, " d"]:
        """The command of this step."""
        command = self._command(self.step)
        self.skip()
        return command

    def skip(self) -> None:
        """Let this step pass."""
        self.step += 1
        oldest = self._running(self.step)[-1:]
        while oldest and self._chunks[-1] is not oldest[0]:  # it is over, or a newer one runs instead
            self._chunks.pop()

    def _command(self, step: int) -> Float32[np.ndarray, " d"]:
        running = self._running(step)
        rows = np.stack([item.chunk.actions[step - item.start] for item in running])
        weights = self._ensemble ** np.arange(len(rows), dtype=np.float32)  # 0 ** 0 is 1: the newest alone
        command: np.ndarray = weights @ rows / weights.sum()
        return command.astype(np.float32)

    def _running(self, step: int) -> list[_Pending]:
        """The chunks that a command is made of, newest first."""
        covering = [i for i in self._chunks if i.begins <= step < i.start + len(i.chunk.actions)]
        return covering if self._ensemble else covering[:1]
