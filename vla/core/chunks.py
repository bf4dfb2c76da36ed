"""From chunks to one command a step: how many steps of a chunk run before the policy is asked again."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from vla.core.errors import ConfigError
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
        """What is asked for; else what the policy was made for; else whole chunks."""
        return Execution(
            execute=execute or (spec.execute if spec else None),
            ensemble=ensemble if ensemble is not None else spec.ensemble if spec else 0.0,
        )

    def __str__(self) -> str:
        steps = "whole chunks" if self.execute is None else f"{self.execute} step{'s' if self.execute > 1 else ''}"
        return f"{steps}, ensembled {self.ensemble:g}" if self.ensemble else steps


class ChunkBuffer:
    """The pending actions of one episode."""

    def __init__(self, execution: Execution) -> None:
        self._execute, self._ensemble = execution.execute, execution.ensemble
        self._chunks: deque[tuple[int, ActionChunk]] = deque()  # (step of the first action, chunk), newest first
        self._step = 0

    @property
    def wants_chunk(self) -> bool:
        """Whether a new chunk is due before the next command."""
        if not self._chunks:
            return True
        start, chunk = self._chunks[0]
        return self._step - start >= min(self._execute or len(chunk.actions), len(chunk.actions))

    def add(self, chunk: ActionChunk) -> None:
        """Take a chunk whose first action is due now."""
        if not self._ensemble:
            self._chunks.clear()
        self._chunks.appendleft((self._step, chunk))

    @property
    def clipped(self) -> bool:
        """Whether the command of this step was brought inside of the limits in any chunk that it is made of."""
        return any(self._step - start in chunk.clipped for start, chunk in self._chunks)

    def pop(self) -> Float32[np.ndarray, " d"]:
        """The command of this step."""
        while self._step - self._chunks[-1][0] >= len(self._chunks[-1][1].actions):
            self._chunks.pop()
        rows = np.stack([chunk.actions[self._step - start] for start, chunk in self._chunks])
        weights = self._ensemble ** np.arange(len(rows), dtype=np.float32)  # 0 ** 0 is 1: the newest alone
        self._step += 1
        command: np.ndarray = weights @ rows / weights.sum()
        return command.astype(np.float32)
