"""Settings of evaluations. Free of heavy imports, so that help is instant."""

from dataclasses import dataclass, field
from typing import Any

from vla.core.errors import ConfigError
from vla.core.processes import Engine, cores
from vla.envs.spec import Language

LANGUAGE_TEST: tuple[Language, ...] = ("right", "paraphrase", "blank", "wrong")
"""What the evaluator can say: a paraphrase is one of the environment's other wordings, chosen by the seed."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Which episodes to run, and how."""

    env: str = "tabletop/place"
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the environment that differ from its defaults."""
    split: str = ""
    """Which split of the environment; empty is its default."""
    episodes: int = 100
    seed: int = 500_000
    """Episode i runs on seed + i."""
    language: Language = "right"
    """What the policy is told: right, paraphrase, blank or wrong."""
    perturbation: dict[str, Any] = field(default_factory=dict)
    """What disturbs the episode: settings of ``vla.envs.perturbations``."""
    execute: int | None = None
    """Steps of a chunk that run before the policy is asked again; by default what its checkpoint says, or all."""
    ensemble: float = 0.0
    """Weight of older chunks that cover a step, per request of age; 0 uses the newest alone."""
    workers: int = field(default_factory=cores)
    """Processes; one runs everything in this process."""
    batch: int = 10
    """Environments that share one inference in a worker."""
    engine: Engine = "processes"
    """processes on this machine, ray on the nodes of a cluster, or inline in this process."""

    def __post_init__(self) -> None:
        for name in ("episodes", "execute", "workers", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"evaluation.{name}={value} must be at least 1")
