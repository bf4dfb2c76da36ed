"""What training runs are made of: the dataclasses behind every recipe in ``configs/``."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from vla.core.errors import ConfigError
from vla.datasets.sampling.settings import MixtureConfig
from vla.datasets.selection import Selection
from vla.models.config import ModelConfig
from vla.models.kinds.unified import UnifiedConfig
from vla.training.augmentation.config import AugmentationConfig

REPORTED = (500_000, 600_000)
"""Scenes from which evaluations report by default, the second excluded."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which samples are drawn, and how often."""

    path: str = ""
    """A dataset as ``vla collect`` writes it: a folder or a URL such as ``s3://bucket/prefix``."""
    mixture: Annotated[MixtureConfig | None, tyro.conf.Suppress] = None
    """Several datasets, of one robot or of several, instead of ``path``; a list that only a recipe can hold."""
    manifest: int | None = None
    """Version of the dataset; the latest by default."""
    select: Selection = field(default_factory=Selection)
    """Only some of the episodes, for example ``--data.select.success True``."""
    held_out: str | None = None
    """The split that is held out of training; None holds out a random share of the episodes."""
    validation: float = 0.02
    """That share."""
    strata: dict[str, float] = field(default_factory=dict)
    """Shares of each batch that are drawn from certain moments: names of ``STRATA``, the rest is drawn from all."""
    loaders: int = 0
    """Loader processes of each worker; 0 reads in the training process, best when cores are few."""

    def __post_init__(self) -> None:
        if self.loaders < 0:
            raise ConfigError(f"train.data.loaders={self.loaders} must be at least 0")
        if self.path and self.mixture is not None:
            raise ConfigError("train.data: path and mixture are both given; give one of them")
        if not 0 <= self.validation < 1:
            raise ConfigError(f"train.data.validation={self.validation} must be at least 0 and below 1")
        if min(self.strata.values(), default=1) <= 0 or sum(self.strata.values()) >= 1:
            raise ConfigError(f"train.data.strata={self.strata}: shares must be positive, and below 1 in all")
        if self.mixture is not None and (self.strata or self.manifest or self.select != Selection()):
            raise ConfigError(
                "train.data: strata, manifest and select belong to path; a mixture's entries say their own"
            )

    @property
    def versions(self) -> list[tuple[str, int | None]]:
        """Path and version of every dataset."""
        if self.mixture is not None:
            return [(entry.path, entry.manifest) for entry in self.mixture.entries]
        return [(self.path, self.manifest)] if self.path else []

    def resolved(self) -> "DataConfig":
        """The same with paths that hold in any folder, and of which a dataset has one, however it was spelled."""
        if self.mixture is None:
            return replace(self, path=_resolved(self.path))
        entries = tuple(replace(entry, path=_resolved(entry.path)) for entry in self.mixture.entries)
        return replace(self, mixture=replace(self.mixture, entries=entries))


def _resolved(location: str) -> str:
    from vla.datasets.storage.storage import open_storage

    url = open_storage(location).url if location else ""
    return url if "://" in url or not url else str(Path(url).resolve())


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
class LoraConfig:
    """Low-rank adaptation of linear layers instead of training the whole model; see `vla.models.lora`."""

    rank: int = 0
    """Of what is added to each layer; 0 adapts none, and trains the model itself."""
    alpha: float = 16.0
    """What is added is weighted by alpha / rank."""
    targets: tuple[str, ...] = ("trunk.*",)
    """Patterns of names of weights: each linear layer that fits one is adapted."""
    train: tuple[str, ...] = ()
    """Patterns of names of weights that are trained whole beside it, such as ``head.*``; all else is frozen."""

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ConfigError(f"train.lora.rank={self.rank} must be at least 0")
        if not self.alpha > 0:
            raise ConfigError(f"train.lora.alpha={self.alpha} must be positive")
        if self.rank and not self.targets:
            raise ConfigError("train.lora.targets names no layer; give patterns such as trunk.*")


@dataclass(frozen=True, kw_only=True)
class ClosedLoopConfig:
    """Episodes that the averaged weights drive beside the training, to choose the best of them."""

    env: str = ""
    """The task; empty lets nobody drive."""
    settings: Annotated[dict[str, Any], tyro.conf.Suppress] = field(default_factory=dict)
    """Of the environment, that differ from its defaults; a recipe can hold them."""
    episodes: int = 20
    seed: int = 400_000
    """Episode i is scene seed + i; these choose, so they are neither trained on nor reported (500,000 and on)."""
    every_s: float = 120.0
    """Seconds from one time to the next, at least."""

    def __post_init__(self) -> None:
        for name in ("episodes", "every_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"train.closed_loop.{name}={getattr(self, name)} must be positive")
        if self.seed < REPORTED[1] and self.seed + self.episodes > REPORTED[0]:
            raise ConfigError(
                f"train.closed_loop.seed={self.seed}: scenes {REPORTED[0]} to {REPORTED[1] - 1} are those that "
                "evaluations report, and a policy is not chosen by what is reported of it; choose another seed"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=UnifiedConfig)
    init: str | None = None
    """A checkpoint to start from: its weights, words and scales, as far as they mean the same for this data."""
    freeze: tuple[str, ...] = ()
    """Patterns such as ``trunk.*`` of names of weights that stay as they are, with the statistics of their norms."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    engine: Literal["ray", "inline"] = "ray"
    """Ray Train workers, or the same loop in this process."""
    workers: int = 2
    """Data-parallel workers; ``inline`` has one."""
    threads: int = 1
    """Threads of each worker."""
    parallel: str = "auto"
    """How workers share one model: a name of ``PARALLEL``; auto is ``ddp`` where there are several."""
    device: str = "auto"
    """auto takes a GPU where there is one; or cpu, cuda, cuda:1."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products; auto measures once which is faster on this machine, and a run keeps what it chose."""
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
    gradient_steps: int = 500
    """Steps from one time to the next that the norm of each loss's own gradient is measured and logged, which takes as
    long as a step for each loss; 0 is never."""
    wandb: str = ""
    """A project of Weights & Biases that gets what is logged, too; WANDB_MODE=offline keeps it in the run's folder."""
    evaluators: tuple[str, ...] = ("held_out", "first_frames")
    """What is measured on held-out episodes: names of ``EVALUATORS``."""
    closed_loop: ClosedLoopConfig = field(default_factory=ClosedLoopConfig)
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
        if self.lora.rank and self.freeze:
            raise ConfigError(
                f"train.freeze={list(self.freeze)}: lora freezes all that it does not adapt; leave freeze out, and "
                "name what is to be trained beside it in lora.train"
            )
        if self.engine == "inline" and self.workers != 1:
            raise ConfigError(f"train.workers={self.workers}: engine inline has one worker; set workers to 1")
        if not self.model.acts and ("first_frames" in self.evaluators or self.closed_loop.env):
            raise ConfigError(
                f"train.evaluators={list(self.evaluators)}, closed_loop.env={self.closed_loop.env!r}: the model does "
                "not act; let held_out alone measure it, with --evaluators held_out and no closed_loop.env"
            )
        if not 0 <= self.constant < 1:
            raise ConfigError(f"train.constant={self.constant} must be at least 0 and below 1")
        for name in ("warmup_steps", "ema", "max_failures", "gradient_steps"):
            if getattr(self, name) < 0:
                raise ConfigError(f"train.{name}={getattr(self, name)} must be at least 0")

    def require_speech(self) -> None:
        """`ConfigError` where a model listens and nobody speaks, or the other way round.

        A recipe may leave either to the command line, so it is asked when training begins.
        """
        if self.augmentation.speech and not self.model.listens:
            raise ConfigError(
                "train.augmentation.speech: the model has no reader of sound and would be told nothing; add one with "
                "model.readers: {sound: {kind: sound}, images: {asks: [text, sound]}}"
            )
        if self.model.listens and not (self.augmentation.speech or self.init):
            raise ConfigError(
                "model.readers.sound learns nothing unless instructions are spoken: make a speech bank with vla data "
                "speak DATASET --out FOLDER, and name it with train.augmentation.speech"
            )

    def resolved(self) -> "TrainConfig":
        """The same with paths that hold in any folder."""
        init = self.init and str(Path(self.init).resolve())
        augmentation = self.augmentation.resolved()
        return replace(
            self, data=self.data.resolved(), model=self.model.resolved(), init=init, augmentation=augmentation
        )
