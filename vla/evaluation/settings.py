"""How evaluations run, apart from what runs (`vla.evaluation.trials.Condition`). Free of heavy imports.

Where, on how many processes and in what batches episodes run changes nothing of them; ``execute``,
``ensemble``, ``latency_steps`` and ``speech`` do.
"""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vla.core.config import require_at_least_one
from vla.core.delay import Lateness, measured_ms
from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.core.machine.packages import require_package
from vla.core.machine.processes import Engine, cores
from vla.sound.voices import VOICES


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
    latencies: Path | None = None
    """Times in ms that were measured, which each inference's is drawn from instead: a JSON list, or what ``vla run
    --json`` wrote."""
    committed: bool = True
    """Tell a checkpoint that was trained for it what runs while it computes."""
    speech: str = ""
    """A voice that says each instruction, one of those of ``vla data speak`` or the one it holds out; nothing is
    written then."""
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
        _ = self.lateness  # refuses what does not go together
        if self.speech:
            lookup("voice", self.speech, VOICES)
            require_package("espeakng_loader", "speech")
        if not self.patience_s > 0:
            raise ConfigError(f"evaluation: patience_s={self.patience_s:g} must be more than 0")

    @functools.cached_property
    def lateness(self) -> Lateness:
        """How late answers are."""
        ms = () if self.latencies is None else measured_ms(self.latencies)
        return Lateness(steps=self.latency_steps, ms=ms, told=self.committed)

    @property
    def computing(self) -> dict[str, Any]:
        """How checkpoints compute, as far as it is not the default: the last bits of all results rest on it."""
        said = {"device": self.device, "precision": self.precision, "compile": self.compile}
        return {name: value for name, value in said.items() if value not in ("auto", "float32", "none")}
