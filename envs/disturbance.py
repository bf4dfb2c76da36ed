"""What pushes an arm off its expert's path while demonstrations are recorded. Free of heavy imports."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """What pushes the arm off the expert's path, so that demonstrations show the way back.

    Labels stay the expert's: ``action`` is what it wanted in the disturbed state, ``action_executed`` what was sent
    (DART, arXiv 1703.09327).
    """

    episodes: float = 0.8
    """Share of episodes that are disturbed at all."""
    steps: float = 0.5
    """Share of their steps with noise on the joint targets."""
    noise_rad: float = 0.02
    """Deviation of that noise."""
    kicks: float = 0.05
    """Probability that a kick begins at a step: one constant joint offset for several steps."""
    kick_rad: float = 0.05
    kick_steps: int = 4
