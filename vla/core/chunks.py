"""From chunks to one command a step: how many steps of a chunk run before the policy is asked again."""

from collections import deque

import numpy as np
from jaxtyping import Float32

from vla.core.errors import ConfigError
from vla.core.types import ActionChunk


class ChunkBuffer:
    """The pending actions of one episode.

    ``execute`` steps of each chunk are run before a new one is wanted. With ``ensemble`` > 0, a step's command is the
    mean over all chunks that cover it, a chunk that is ``k`` requests old weighted by ``ensemble ** k`` (temporal
    ensembling, arXiv 2304.13705, with the newest weighted most).
    """

    def __init__(self, *, execute: int, ensemble: float = 0.0) -> None:
        if execute < 1 or not 0 <= ensemble <= 1:
            raise ConfigError(f"execute={execute} must be at least 1 and ensemble={ensemble} between 0 and 1")
        self._execute, self._ensemble = execute, ensemble
        self._chunks: deque[tuple[int, ActionChunk]] = deque()  # (step of the first action, chunk), newest first
        self._step = 0

    @property
    def wants_chunk(self) -> bool:
        """Whether a new chunk is due before the next command."""
        if not self._chunks:
            return True
        start, chunk = self._chunks[0]
        return self._step - start >= min(self._execute, len(chunk.actions))

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
