"""How late an answer of a policy is, in control steps: what a loop counts on, and what an evaluation lets happen."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from vla.core.errors import ConfigError

_REMEMBERED = 10


class Delay:
    """How many steps go by between an observation and the first command that rests on it."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def measured(self, seconds: float) -> None:
        """One more; what a first inference takes does not belong here."""
        self._seconds.append(seconds)

    @property
    def steps(self) -> int:
        """To count on: the longest of the last ones, and at least one."""
        return max(1, whole_steps(max(self._seconds, default=0.0), self._period_s))


def whole_steps(seconds: float, period_s: float) -> int:
    """Steps until something that takes so long is there, to the microsecond."""
    return -(-round(seconds * 1e6) // round(period_s * 1e6))


@dataclass(frozen=True, kw_only=True)
class Lateness:
    """How late answers are in an evaluation: always by as many steps, or as drawn from times that were measured."""

    steps: int = 0
    ms: tuple[float, ...] = ()
    told: bool = True
    """Whether a policy that was trained for it hears which commands run until its answer is there."""

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"evaluation: latency_steps={self.steps} must be at least 0")
        if self.steps and self.ms:
            raise ConfigError(f"evaluation: latency_steps={self.steps} and latencies are both given; give one of them")
        if not all(0 < value < np.inf for value in self.ms):
            raise ConfigError("evaluation: latencies: expected times in ms above 0")

    def __bool__(self) -> bool:
        return bool(self.steps or self.ms)

    def seconds(self, rng: np.random.Generator, period_s: float) -> float:
        """Of one answer."""
        return float(rng.choice(self.ms)) / 1e3 if self.ms else self.steps * period_s
