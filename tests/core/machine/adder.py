"""Work for workers to import."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any


class Adder:
    """Adds up what it is given, from share to share; 13 raises, and -9 kills the process that it is in.

    A share and a half hangs: 600.5 for ten minutes; a quarter is eight steps of as many seconds, each reported.
    """

    def __init__(self) -> None:
        self.total = 0.0

    def __call__(self, share: float, report: Callable[[Any], None]) -> tuple[float, float, int]:
        report(("began", share))
        if share == 13:
            raise RuntimeError("thirteen")
        if share == -9:
            os.kill(os.getpid(), signal.SIGKILL)
        if share == 600.5:
            time.sleep(600)
        for step in range(8 if share == 0.25 else 0):
            time.sleep(share)
            report(("step", step))
        self.total += share
        return share, self.total, os.getpid()
