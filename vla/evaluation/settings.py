"""How evaluations run, apart from what runs (`vla.evaluation.trials.Condition`). Free of heavy imports.

Where, on how many processes and in what batches episodes run changes nothing of them; ``execute``,
``ensemble`` and ``latency_steps`` do.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vla.core.config import require_at_least_one
from vla.core.errors import ConfigError
from vla.core.machine.processes import Engine, cores


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How to run episodes."""

    execute: int | None = None
    """Steps of a chunk that run before the policy is asked again; by default what its checkpoint says, or all."""
    ensemble: float | None = None
    """Weight of older chunks that cover a step, per request of age, 0 uses the newest alone; by default what its
    checkpoint says, or 0."""
    latency_steps: int = 0
    """Control steps that an inference takes: a chunk begins so many steps after its observation, and until then the one
    before it goes on. A checkpoint that was trained with ``model.committed`` is told what runs meanwhile."""
    out: Path | None = None
    """Folder that keeps every episode as it ends; the same evaluation goes on with what is missing."""
    workers: int = field(default_factory=cores)
    """Processes; one runs everything in this process."""
    batch: int = 10
    """Environments that share one inference in a worker."""
    engine: Engine = "processes"
    """processes on this machine, ray on the nodes of a cluster, or inline in this process."""
    device: str = "auto"
    """On which checkpoints compute: auto, cpu, cuda or cuda:N."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of their matrix products."""
    compile: Literal["none", "default", "graphs"] = "none"
    """Compile them by TorchInductor, which takes a minute for each size of batch, or replay them as CUDA graphs."""
    patience_s: float = 600.0
    """A worker in which no environment is built or steps, and no policy answers, for so long hangs, and is ended."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "execute", "workers", "batch", where="evaluation: ")
        if self.latency_steps < 0:
            raise ConfigError(f"evaluation: latency_steps={self.latency_steps} must be at least 0")
        if not self.patience_s > 0:
            raise ConfigError(f"evaluation: patience_s={self.patience_s:g} must be more than 0")

    @property
    def computing(self) -> dict[str, Any]:
        """How checkpoints compute, as far as it is not the default: the last bits of all results rest on it."""
        said = {"device": self.device, "precision": self.precision, "compile": self.compile}
        return {name: value for name, value in said.items() if value not in ("auto", "float32", "none")}
