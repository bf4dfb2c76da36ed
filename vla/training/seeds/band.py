"""What several runs of one recipe have in common: of each metric the mean, and how far apart they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True, kw_only=True)
class SeedRun:
    """What one seed brought."""

    seed: int
    checkpoint: str
    digest: str
    """Of its files."""
    steps: int
    seconds: float
    metrics: Mapping[str, float]
    """On held-out episodes, by the names of `EVALUATORS`; ``closed_loop_success`` of the final weights;
    ``success ENV`` of ``vla eval``, where its results are in the run's folder."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """One metric over the seeds that have it."""

    metric: str
    mean: float
    low: float
    """The least."""
    high: float
    """The most."""
    deviation: float | None
    """Of a sample (n - 1); None of one seed."""
    seeds: int


@dataclass(frozen=True, kw_only=True)
class SeedRuns:
    """What all seeds brought."""

    runs: tuple[SeedRun, ...]
    bands: tuple[Band, ...]


def bands(runs: Sequence[SeedRun]) -> list[Band]:
    """That of each metric, over the runs that have it."""
    found = []
    for name in dict.fromkeys(name for run in runs for name in run.metrics):
        values = [run.metrics[name] for run in runs if name in run.metrics]
        deviation = stdev(values) if len(values) > 1 else None
        found.append(
            Band(
                metric=name, mean=fmean(values), low=min(values), high=max(values), deviation=deviation,
                seeds=len(values),
            )
        )  # fmt: skip
    return found
