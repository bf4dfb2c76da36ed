"""What training runs are made of: the dataclasses behind every recipe in ``configs/``."""

from dataclasses import dataclass, field
from typing import Literal

from vla.core.errors import ConfigError
from vla.datasets.selection import Selection
from vla.models.config import UnifiedConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which samples are drawn, and how often."""

    path: str = "data/place"
    """A dataset as ``vla collect`` writes it: a folder or a URL such as ``s3://bucket/prefix``."""
    manifest: int | None = None
    """Version of the dataset; the latest by default."""
    select: Selection = field(default_factory=Selection)
    """Only some of the episodes, for example ``--data.select.success True``."""
    held_out: str | None = None
    """The split that is held out of training; None holds out a random share of the episodes."""
    validation: float = 0.02
    """That share."""
    approach: float = 0.5
    """Share of each batch drawn from the approach, before the arm's own pose gives the object away."""
    loaders: int = 0
    """Loader processes of each worker; 0 reads in the training process, best when cores are few."""

    def __post_init__(self) -> None:
        if self.loaders < 0:
            raise ConfigError(f"train.data.loaders={self.loaders} must be at least 0")


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Learning rates and decay; both rates follow one schedule."""

    lr: float = 2e-3
    """Of AdamW."""
    muon_lr: float = 0.02
    """Of Muon; 0 trains everything with AdamW."""
    weight_decay: float = 0.01
    betas: tuple[float, ...] = (0.9, 0.95)
    clip: float = 1.0
    """Largest norm of the gradient."""

    def __post_init__(self) -> None:
        for name, good in (("lr", self.lr > 0), ("clip", self.clip > 0), ("muon_lr", self.muon_lr >= 0)):
            if not good:
                least = "at least 0" if name == "muon_lr" else "positive"
                raise ConfigError(f"train.optimiser.{name}={getattr(self, name)} must be {least}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"train.optimiser.betas={self.betas} must be two numbers of at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: UnifiedConfig = field(default_factory=UnifiedConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    engine: Literal["ray", "inline"] = "ray"
    """Ray Train workers, or the same loop in this process."""
    workers: int = 2
    """Data-parallel workers; ``inline`` has one."""
    threads: int = 1
    """Threads of each worker."""
    batch: int = 32
    """Samples of each worker in a step."""
    minutes: float = 10.0
    """Training ends, and the schedule with it, after this time or after ``steps``, whichever comes first."""
    steps: int = 1_000_000
    warmup_steps: int = 100
    constant: float = 0.3
    """Share of the run before the learning rate begins to fall (linearly, to zero)."""
    ema: float = 0.1
    """The averaged weights look back over this share of the steps so far."""
    seed: int = 0
    log_steps: int = 50
    validate_s: float = 60.0
    """Seconds between validations."""
    checkpoint_s: float = 120.0
    """Seconds between checkpoints that a run can resume from."""
    max_failures: int = 3
    """How often lost workers are replaced before the run fails (engine ``ray``)."""

    def __post_init__(self) -> None:
        positive = ("workers", "threads", "batch", "minutes", "steps", "log_steps", "validate_s", "checkpoint_s")
        for name in positive:
            if getattr(self, name) <= 0:
                raise ConfigError(f"train.{name}={getattr(self, name)} must be positive")
        if self.engine == "inline" and self.workers != 1:
            raise ConfigError(f"train.workers={self.workers}: engine inline has one worker; set workers to 1")
        shares = {
            "data.approach": self.data.approach,
            "data.validation": self.data.validation,
            "constant": self.constant,
        }
        for name, value in shares.items():
            if not 0 <= value < 1:
                raise ConfigError(f"train.{name}={value} must be at least 0 and below 1")
        for name in ("warmup_steps", "ema", "max_failures"):
            if getattr(self, name) < 0:
                raise ConfigError(f"train.{name}={getattr(self, name)} must be at least 0")
