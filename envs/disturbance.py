"""What pushes an arm off its expert's path while demonstrations are recorded. Free of heavy imports."""

import math
from dataclasses import dataclass

from vla.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """What pushes the arm off the expert's path, so that demonstrations show the way back.

    Labels stay the expert's: ``action`` is what it wanted in the disturbed state, ``action_executed`` what was sent
    (DART, arXiv 1703.09327).
    """

    episode_share: float = 0.8
    """Share of episodes that are disturbed at all."""
    step_share: float = 0.5
    """Share of their steps with noise on the targets; the gripper is left alone."""
    noise_rad: float = 0.02
    """Standard deviation of that noise on joint targets, and its share of a turn that of all other targets."""
    noise_move: float = 0.1
    """The same on commands that move by so much, as a share of their range in the contract."""
    offset_share: float = 0.05
    """Share of their steps at which an offset of the targets begins, constant for several steps."""
    offset_rad: float = 0.05
    """Standard deviation of that offset, as of the noise."""
    offset_move: float = 0.25
    """The same on commands that move by so much, as a share of their range."""
    offset_steps: int = 4
    """Steps that it lasts at most."""

    def __post_init__(self) -> None:
        for name in ("episode_share", "step_share", "offset_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"disturbance: {name}={getattr(self, name)} must be between 0 and 1")
        for name in ("noise_rad", "noise_move", "offset_rad", "offset_move"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"disturbance: {name}={getattr(self, name)} must be finite and at least 0")
        if self.offset_steps < 1:
            raise ConfigError(f"disturbance: offset_steps={self.offset_steps} must be at least 1")
