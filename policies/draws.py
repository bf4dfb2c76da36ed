"""What the chunks of each slot are drawn by: the seed of its episode, and how many chunks have been drawn since."""

_MOST_CHUNKS = 1 << 20
"""Of an episode, before it draws as the next seed does."""


class Draws:
    """One number for each chunk of each episode; which slot an episode is in, and what others do, changes nothing."""

    def __init__(self) -> None:
        self._slots: dict[int, tuple[int, int]] = {}

    def begin(self, slot: int, seed: int = 0) -> None:
        """The episode in ``slot`` draws by ``seed`` from its first chunk on."""
        self._slots[slot] = seed, 0

    def next(self, slot: int) -> int:
        """What the next chunk of a slot is drawn by."""
        seed, drawn = self._slots.get(slot, (0, 0))
        self._slots[slot] = seed, drawn + 1
        return (seed * _MOST_CHUNKS + drawn) % 2**63
