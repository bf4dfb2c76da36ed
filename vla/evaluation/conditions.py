"""Named sets of conditions on the same scenes, and what they show: whether a policy listens, what it withstands."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from vla.core.chunks import Execution
from vla.core.lookup import lookup
from vla.envs.spec import Language
from vla.evaluation.comparison import compare_episodes
from vla.evaluation.rows import ResultRow
from vla.evaluation.statistics import Difference, SuccessRate, success_rate
from vla.evaluation.trials import Condition

LANGUAGE_TEST: tuple[Language, ...] = ("right", "paraphrase", "blank", "wrong")
"""What ``--language-test`` says: a paraphrase is any of the other words of `vla.evaluation.scenes.phrasing`."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One kind of disturbance."""

    title: str
    unit: str
    levels: tuple[float | int, ...]
    """What is tried beside none at all."""


EXECUTIONS = (
    *(Execution(execute=steps, ensemble=ensemble) for steps in (1, 2, 4) for ensemble in (0.8, 0.0)),
    Execution(),
)
"""What ``--execution`` tries: asking anew soon, with and without the chunks before, and running chunks to their end."""
_STEPS, _SHARE = "control steps", "deviation, share of range"
AXES: dict[str, Axis] = {
    "observation_latency_steps": Axis(title="Late observations", unit=_STEPS, levels=(1, 2, 3, 4, 6, 8)),
    "action_latency_steps": Axis(title="Late actions", unit=_STEPS, levels=(1, 2, 3, 4, 6, 8)),
    "dropped_frames": Axis(title="Lost frames", unit="share of frames", levels=(0.1, 0.25, 0.5, 0.75, 0.9)),
    "image_noise": Axis(title="Noise on pixels", unit="deviation, grey levels", levels=(5.0, 10.0, 20.0, 40.0)),
    "state_noise": Axis(title="Noise on the state", unit=_SHARE, levels=(0.005, 0.01, 0.02, 0.05)),
    "action_noise": Axis(title="Noise on actions", unit=_SHARE, levels=(0.001, 0.0025, 0.005, 0.01, 0.02)),
}
"""By the field of `vla.envs.perturbations.PerturbationConfig`."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How far success under other words stays behind that under the right ones, on the same seeds."""

    gap: Difference
    p_value: float
    """Of McNemar's exact test."""


@dataclass(frozen=True, kw_only=True)
class LanguageGap:
    """Success under one instruction, and how far it stays behind the right one."""

    condition: Condition
    success: SuccessRate
    success_unsaid: SuccessRate | None
    """With a wrong instruction: how often the goal that was not said was reached."""
    behind: Gap | None
    """None for the right instruction."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """Success at one level of a disturbance."""

    level: float
    success: SuccessRate


@dataclass(frozen=True, kw_only=True)
class RobustnessCurve:
    """Success by the level of one disturbance, undisturbed first, all on the same seeds."""

    condition: Condition
    axis: str
    levels: tuple[Level, ...]


@dataclass(frozen=True, kw_only=True)
class ExecutionRate:
    """Success when chunks are executed in one way, of all tasks and splits together."""

    execution: Execution
    success: SuccessRate
    mean_steps: float | None


def execution_conditions(conditions: Iterable[Condition]) -> Iterator[Condition]:
    """Each condition in each of the ways of `EXECUTIONS`."""
    for condition in conditions:
        for execution in EXECUTIONS:
            yield replace(condition, execution=execution)


def execution_rates(rows: Sequence[ResultRow]) -> list[ExecutionRate]:
    """What each way of executing chunks brought, the best first; of those that are alike, the one that asks least."""
    rates = []
    for execution in dict.fromkeys(row.condition.execution for row in rows if row.condition.execution):
        found = [row for row in rows if row.condition.execution == execution]
        episodes = [episode for row in found for episode in row.episodes if episode.crash is None]
        successes = success_rate(sum(episode.success for episode in episodes), len(episodes))
        steps = sum(episode.steps for episode in episodes) / len(episodes) if episodes else None
        rates.append(ExecutionRate(execution=execution, success=successes, mean_steps=steps))
    return sorted(rates, key=lambda found: (-found.success.successes, -(found.execution.execute or math.inf)))


def robustness_conditions(conditions: Iterable[Condition], axes: Sequence[str] = ()) -> Iterator[Condition]:
    """Each condition at each level of each axis; all axes unless some are named."""
    for condition in conditions:
        for name in axes or AXES:
            for level in lookup("axis of robustness", name, AXES).levels:
                yield replace(condition, perturbation={name: level})


def language_gaps(rows: Sequence[ResultRow]) -> list[LanguageGap]:
    """For each environment and split where more than the right instruction was tried: all of them, the right one first.

    A policy that listens has gaps near 1 for blank instructions where words are needed, near 0 for paraphrases; with a
    wrong one it does what was said (``success``), not what would have been right (``success_unsaid``).
    """
    plain = {row.condition.key: row for row in rows if row.condition.plain}
    gaps = []
    for right in (row for row in plain.values() if row.condition.language == "right"):
        others = [
            row
            for row in plain.values()
            if row is not right and replace(row.condition, language="right") == right.condition
        ]
        if others:
            gaps.append(LanguageGap(condition=right.condition, success=right.success, success_unsaid=None, behind=None))
        gaps += [_gap(right, row) for row in others]
    return gaps


def robustness_curves(rows: Sequence[ResultRow]) -> list[RobustnessCurve]:
    """For each undisturbed condition and axis the success rates by level."""
    curves = []
    for plain in (row for row in rows if row.condition.plain):
        for axis in AXES:
            levels = [
                Level(level=float(row.condition.perturbation[axis]), success=row.success)
                for row in rows
                if list(row.condition.perturbation) == [axis]
                and replace(row.condition, perturbation={}) == plain.condition
            ]
            if levels:
                ordered = sorted(levels, key=lambda level: level.level)
                first = Level(level=0.0, success=plain.success)
                curves.append(RobustnessCurve(condition=plain.condition, axis=axis, levels=(first, *ordered)))
    return curves


def _gap(right: ResultRow, row: ResultRow) -> LanguageGap:
    told = compare_episodes(right.episodes, row.episodes)
    return LanguageGap(
        condition=row.condition,
        success=row.success,
        success_unsaid=row.success_unsaid if row.condition.language == "wrong" else None,
        behind=Gap(gap=told.gap, p_value=told.p_value),
    )
