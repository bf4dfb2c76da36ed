"""Absolute deadlines, and how well they were kept."""

import time
from dataclasses import dataclass

import numpy as np

_KEPT = 1 << 18
"""Ticks whose lateness is kept for percentiles; of more, the last ones."""


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """How a loop kept its rate; lateness is from a deadline to the moment that the loop was running again."""

    ticks: int
    missed: int
    """Deadlines that went by while the loop was busy: left out, and not caught up."""
    rate_hz: float
    lateness_p50_ms: float
    lateness_p99_ms: float
    lateness_max_ms: float
    drift_ms: float
    """How far the last deadline lies from where it would be if none had been missed."""


class Cadence:
    """Wakes its caller at the multiples of a period after its start: what is late once does not make the next late."""

    def __init__(self, hz: float) -> None:
        self.period_s = 1 / hz
        self._late_s = np.zeros(_KEPT)  # allocated before the first tick
        self.begin()

    def begin(self) -> None:
        """From now on; what was before is forgotten."""
        self._late_s[:] = 0
        self._ticks = self._missed = 0
        self._most_s = 0.0
        self._began_s = self._woke_s = time.monotonic()

    @property
    def deadline_s(self) -> float:
        """The one that is being served, on the monotonic clock."""
        return self._began_s + (self._ticks + self._missed) * self.period_s

    @property
    def left_s(self) -> float:
        """Until the next one; negative when it is over."""
        return self.deadline_s + self.period_s - time.monotonic()

    def wait(self) -> int:
        """Sleep until the next deadline that is not over; how many were."""
        missed = max(0, int(-self.left_s / self.period_s) + 1) if self.left_s < 0 else 0
        self._missed += missed
        self._ticks += 1
        deadline = self.deadline_s
        time.sleep(max(0.0, deadline - time.monotonic()))
        late = self._woke_s = time.monotonic()
        late -= deadline
        self._late_s[self._ticks % _KEPT] = late
        self._most_s = max(self._most_s, late)
        return missed

    def rhythm(self) -> Rhythm:
        """Since the beginning."""
        late_ms = 1e3 * self._late_s[1 : self._ticks + 1] if self._ticks < _KEPT else 1e3 * self._late_s
        took = self._woke_s - self._began_s
        p50, p99 = np.percentile(late_ms, (50, 99)) if len(late_ms) else (0.0, 0.0)
        return Rhythm(
            ticks=self._ticks,
            missed=self._missed,
            rate_hz=self._ticks / took if took > 0 else 0.0,
            lateness_p50_ms=float(p50),
            lateness_p99_ms=float(p99),
            lateness_max_ms=1e3 * self._most_s,
            drift_ms=1e3 * (took - self._ticks * self.period_s),
        )
