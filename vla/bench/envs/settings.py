"""What ``vla bench env`` can be told."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """How fast environments step and render in software, and how fast whole evaluations are."""

    size: int = 128
    """Height and width of the cameras, pixels."""
    budget: float = 1.5
    """CPU seconds for each environment and repeat."""
    tabletop: tuple[str, ...] = ()
    """Which families of the tabletop; by default all."""
    suites: bool = True
    """Also robosuite and Meta-World against their own default rendering, where they are installed."""
    episodes: int = 100
    """Of the expert's evaluation; 0 leaves it out."""
    batch: int = 10
    """Environments that share an inference in the evaluation of a network; 0 leaves it out."""
    network_episodes: int = 100
    """Of that evaluation, each as long as can be: random weights reach nothing."""
    seed: int = 0
    """Of scenes and weights."""
