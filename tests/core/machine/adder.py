"""Work for workers to import."""

import os
import signal
from collections.abc import Callable
from typing import Any


class Adder:
    """Adds up what it is given, from share to share; 13 raises, and -9 kills the process that it is in."""

    def __init__(self) -> None:
        self.total = 0

    def __call__(self, share: int, report: Callable[[Any], None]) -> tuple[int, int, int]:
        report(("began", share))
        if share == 13:
            raise RuntimeError("thirteen")
        if share == -9:
            os.kill(os.getpid(), signal.SIGKILL)
        self.total += share
        return share, self.total, os.getpid()
