"""A time within which something must have happened, on the event loop."""

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls ``missed`` with the seconds that were allowed, unless it is stopped before."""

    def __init__(self, missed: Callable[[float], None]) -> None:
        self._missed = missed
        self._timer: asyncio.TimerHandle | None = None

    def start(self, seconds: float) -> None:
        """From now on; an earlier one does not count."""
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._miss, seconds)

    def stop(self) -> None:
        """It happened."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _miss(self, seconds: float) -> None:
        self._timer = None
        self._missed(seconds)
