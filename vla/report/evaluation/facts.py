"""Any set of results of ``vla eval``, arranged for a page, a table and the terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vla.envs.registry import ENVS
from vla.evaluation.result import ComparisonResult, EvaluationResult, PolicyIdentity, Result
from vla.evaluation.rows import ResultRow
from vla.evaluation.trials import Condition, EpisodeResult

YARDSTICKS = {
    "expert": "the scripted demonstrator, which reads the simulator's state",
    "random": "a random walk of the joints",
}
"""Policies that stand beside the one that a page is about, and what they are."""
OUTCOMES = {
    "success": "success",
    "far": "more than half way",
    "near": "less than half way",
    "broke": "the policy broke down",
    "crash": "crashed",
}
"""How an episode can end, best first: key and words. The way is the best progress that it made."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """One result and the name that it goes by on the page."""

    name: str
    result: Result


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The result of one policy and the name that it goes by on the page."""

    name: str
    result: EvaluationResult

    @property
    def policy(self) -> str:
        """What its policy is called in short."""
        return policy_name(self.result.policy)


def evaluations(results: Sequence[Loaded]) -> Iterator[Evaluated]:
    """Every evaluation of one policy, those inside comparisons too; one that is given twice only once."""
    seen: list[EvaluationResult] = []
    for loaded in results:
        result = loaded.result
        if isinstance(result, EvaluationResult):
            parts = [Evaluated(name=loaded.name, result=result)]
        else:
            parts = [Evaluated(name=policy_name(side.policy), result=side) for side in (result.a, result.b)]
        for part in parts:
            if part.result not in seen:
                seen.append(part.result)
                yield part


def comparisons(results: Sequence[Loaded]) -> list[ComparisonResult]:
    """Those of two policies."""
    return [loaded.result for loaded in results if isinstance(loaded.result, ComparisonResult)]


def subject(results: Sequence[Loaded]) -> Evaluated | None:
    """What a page is about: the only evaluation, or the only one beside yardsticks; None where there are more."""
    found = list(evaluations(results))
    others = [one for one in found if one.policy not in YARDSTICKS]
    chosen = others or found
    return chosen[0] if len(chosen) == 1 and not comparisons(results) else None


def policy_name(policy: PolicyIdentity) -> str:
    """Short, but telling: the run's folder for a path that ends in ``checkpoint``; paths in settings by their names."""
    name, path = policy.name, Path(policy.name)
    if "," in name:
        kind, *settings = name.split(",")
        pairs = (setting.partition("=") for setting in settings)
        return ",".join([kind, *(f"{key}{equals}{Path(value).name}" for key, equals, value in pairs)])
    if name.startswith(("ws://", "wss://")) or not path.name:
        return name
    return path.parent.name if path.name == "checkpoint" and path.parent.name else path.name


def condition_name(condition: Condition) -> str:
    """What is special about a condition; empty where nothing is."""
    parts = [condition.split] if condition.split else []
    if condition.language != "right":
        parts.append(f"{condition.language} instruction")
    if condition.execution:
        parts.append(f"executing {condition.execution}")
    return ", ".join(parts + [f"{kind} {level:g}" for kind, level in condition.perturbation.items()])


def full_name(condition: Condition, policy: str = "") -> str:
    """Policy, task and what is special, as far as there is anything to say."""
    return ", ".join(part for part in (policy, condition.env, condition_name(condition)) if part)


def count_tasks(rows: Sequence[ResultRow]) -> str:
    """``tabletop/place``, ``3 tasks``, or ``3 tasks and splits`` where both differ."""
    if len(rows) == 1:
        return rows[0].condition.env
    alike = len({row.condition.split for row in rows}) == 1
    return f"{len(rows)} tasks" if alike else f"{len(rows)} tasks and splits"


def chance(condition: Condition) -> float | None:
    """The success of a perfect arm that ignores the words, where the environment says so of its default scene."""
    spec = ENVS.get(condition.env)
    return None if spec is None or condition.settings or condition.split else spec.chance


def outcome(episode: EpisodeResult) -> str:
    """How an episode ended: a key of `OUTCOMES`."""
    if episode.crash is not None:
        return "crash"
    if episode.success:
        return "success"
    if episode.failure is not None:
        return "broke"
    return "far" if episode.best_progress > 0.5 else "near"


def outcome_counts(row: ResultRow) -> dict[str, int]:
    """How many episodes of a condition ended how."""
    ends = [outcome(episode) for episode in row.episodes]
    return {key: ends.count(key) for key in OUTCOMES}
