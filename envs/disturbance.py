"""What pushes an arm off its expert's path while demonstrations are recorded. Free of heavy imports."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """What pushes the arm off the expert's path, so that demonstrations show the way back.

    Labels stay the expert's: ``action`` is what it wanted in the disturbed state, ``action_executed`` what was sent
    (DART, arXiv 1703.09327).
    """

    episode_share: float = 0.8
    """Share of episodes that are disturbed at all."""
    step_share: float = 0.5
    """Share of their steps with noise on the joint targets."""
    noise_rad: float = 0.02
    """Standard deviation of that noise."""
    offset_share: float = 0.05
    """Share of their steps at which an offset of the joint targets begins, constant for several steps."""
    offset_rad: float = 0.05
    """Standard deviation of that offset."""
    offset_steps: int = 4
    """Steps that it lasts at most."""
