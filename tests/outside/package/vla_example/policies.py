"""A policy with a memory: it goes on commanding where it was when its episode began."""

from collections.abc import Sequence

import numpy as np

from vla.core.contract import Contract
from vla.core.types import ActionChunk, Observation


class Hold:
    """For robots whose actions are named like their states."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self._first: dict[int, np.ndarray] = {}

    def reset(self, slot: int) -> None:
        """Forget where that episode began."""
        self._first.pop(slot, None)

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """One step each."""
        return [None if seen is None else self._chunk(slot, seen) for slot, seen in enumerate(observations)]

    def _chunk(self, slot: int, seen: Observation) -> ActionChunk:
        low = np.array([d.low for d in self.contract.action], np.float32)
        high = np.array([d.high for d in self.contract.action], np.float32)
        first = self._first.setdefault(slot, np.clip(seen.state[: len(low)], low, high))
        return ActionChunk(actions=first[None].astype(np.float32), time_ns=seen.time_ns)


def hold(contract: Contract) -> Hold:
    """What the entry point names."""
    return Hold(contract)
