"""Going to a pose slowly: home, or to where a policy begins."""

import numpy as np
from jaxtyping import Float32

from vla.core.contract import Contract
from vla.deploy.robots.motion import Motion

_SHARE = 0.25
"""Of the speed that is allowed."""


class Travel:
    """Targets on the way from one pose to another; all joints arrive together."""

    def __init__(
        self,
        start: Float32[np.ndarray, " d"],
        goal: Float32[np.ndarray, " d"],
        motion: Motion,
        contract: Contract,
        *,
        then_pause: bool,
    ) -> None:
        """One target for each control period; ``then_pause`` is for whoever reads it."""
        away = np.abs(goal - start, dtype=np.float64)
        seconds = (away / np.asarray(motion.speed)).max() / _SHARE
        self._start, self._goal, self.then_pause = start, goal, then_pause
        self._steps, self._step = max(1, int(np.ceil(seconds * contract.control_hz))), 0

    def next(self) -> Float32[np.ndarray, " d"]:
        """The next target; the last is the goal itself."""
        self._step += 1
        share = min(1.0, self._step / self._steps)
        return self._goal if share == 1 else self._start + np.float32(share) * (self._goal - self._start)

    @property
    def there(self) -> bool:
        """Whether the goal was given."""
        return self._step >= self._steps
