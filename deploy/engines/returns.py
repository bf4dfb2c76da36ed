"""Who will ask again soon: each client is expected as long after its answer as it took the last time."""

from collections.abc import Collection

_PATIENCE = 2.0
"""Times its last pause after which a client is expected no more."""
_LEAST_S = 0.001


class Returns:
    """The pauses of clients, by slot; times are of one clock, in seconds."""

    def __init__(self) -> None:
        self._answered: dict[int, float] = {}
        self._pauses: dict[int, float] = {}

    def asked(self, slot: int, now: float) -> None:
        """It is there."""
        if slot in self._answered:
            self._pauses[slot] = now - self._answered.pop(slot)

    def answered(self, slot: int, now: float) -> None:
        """It may think."""
        self._answered[slot] = now

    def soon(self, now: float, within_s: float, present: Collection[int]) -> bool:
        """Whether anybody who is not ``present`` should be back within ``within_s``, and is not long overdue."""
        for slot, since in self._answered.items():
            pause = self._pauses.get(slot)
            if pause is None or slot in present:
                continue
            if since + pause - now <= within_s and now - since <= _PATIENCE * pause + _LEAST_S:
                return True
        return False
