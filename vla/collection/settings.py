"""Which demonstrations to collect. Free of heavy imports, so that help is instant."""

from dataclasses import dataclass, field
from typing import Any

from vla.core.errors import ConfigError
from vla.core.machine.processes import cores
from vla.envs.disturbance import Disturbance


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """Which demonstrations to collect."""

    env: str = "tabletop/place"
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the environment that differ from its defaults."""
    episodes: int = 2000
    seed: int = 0
    """Episode i runs on seed + i."""
    disturbance: Disturbance = field(default_factory=Disturbance)
    """What pushes the arm off the expert's path; ``--disturbance.episode-share 0`` for none."""
    workers: int = field(default_factory=cores)

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.workers < 1:
            raise ConfigError(f"collect: episodes={self.episodes} and workers={self.workers} must be at least 1")
