"""Two sets of episodes on the same scenes: who succeeded where, and whether chance explains the difference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vla.evaluation.rows import ResultRow
from vla.evaluation.statistics import (
    Difference,
    Mean,
    PairedCounts,
    SuccessRate,
    holm,
    mcnemar,
    mean_interval,
    paired_difference,
    success_rate,
)
from vla.evaluation.trials import Condition, EpisodeResult


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Rates of A and B, their paired difference with a 95 % interval, exact McNemar test, and the seeds that flipped.

    Only scenes on which both ran without a crash count; how many were left out is told.
    """

    a: SuccessRate
    b: SuccessRate
    counts: PairedCounts
    gap: Difference
    """A less B."""
    p_value: float
    progress_difference: Mean | None
    only_a: tuple[int, ...]
    """Seeds on which A alone succeeds."""
    only_b: tuple[int, ...]
    unpaired: int
    crashed: int


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One condition that both policies ran under; its policy is left out."""

    condition: Condition
    paired: Paired
    p_adjusted: float
    """By Holm's method, for the number of rows."""


def compare_episodes(a: Sequence[EpisodeResult], b: Sequence[EpisodeResult]) -> Paired:
    """Pair the episodes of A and B by their seeds."""
    first, second = ({episode.seed: episode for episode in episodes} for episodes in (a, b))
    shared = sorted(first.keys() & second.keys())
    pairs = [(s, first[s], second[s]) for s in shared if first[s].crash is None and second[s].crash is None]
    only_a = tuple(seed for seed, x, y in pairs if x.success and not y.success)
    only_b = tuple(seed for seed, x, y in pairs if y.success and not x.success)
    both = sum(x.success and y.success for _, x, y in pairs)
    counts = PairedCounts(
        both=both, only_a=len(only_a), only_b=len(only_b), neither=len(pairs) - both - len(only_a) - len(only_b)
    )
    return Paired(
        a=success_rate(both + len(only_a), len(pairs)),
        b=success_rate(both + len(only_b), len(pairs)),
        counts=counts,
        gap=paired_difference(counts),
        p_value=mcnemar(len(only_a), len(only_b)),
        progress_difference=_mean_difference([x.progress - y.progress for _, x, y in pairs]),
        only_a=only_a,
        only_b=only_b,
        unpaired=len(first.keys() ^ second.keys()),
        crashed=len(shared) - len(pairs),
    )


def compare_rows(a: Sequence[ResultRow], b: Sequence[ResultRow]) -> tuple[ComparisonRow, ...]:
    """The comparison of each condition that both have, with p-values adjusted for their number."""
    others = {_shared(row).key: row for row in b}
    pairs = [(_shared(row), row, others[_shared(row).key]) for row in a if _shared(row).key in others]
    paired = [compare_episodes(x.episodes, y.episodes) for _, x, y in pairs]
    adjusted = holm([one.p_value for one in paired])
    return tuple(
        ComparisonRow(condition=condition, paired=one, p_adjusted=p)
        for (condition, _, _), one, p in zip(pairs, paired, adjusted, strict=True)
    )


def _shared(row: ResultRow) -> Condition:
    """The condition without who acts: what must be the same."""
    return replace(row.condition, policy="")


def _mean_difference(values: Sequence[float]) -> Mean | None:
    """Mean of what lies between -1 and 1 with a 95 % normal interval."""
    scaled = mean_interval([(1 + value) / 2 for value in values])
    if scaled is None:
        return None
    mean, low, high = (float(np.clip(2 * v - 1, -1, 1)) for v in (scaled.mean, scaled.low, scaled.high))
    return Mean(mean=mean, low=low, high=high)
