"""Results: what ``result.json`` holds, field by field, and what pages and tables are made of."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, TypeVar

from vla.core.config import from_dict
from vla.core.errors import ConfigError, VlaError
from vla.evaluation.comparison import ComparisonRow
from vla.evaluation.conditions import ExecutionRate, LanguageGap, RobustnessCurve
from vla.evaluation.rows import ResultRow
from vla.evaluation.runner import Origin
from vla.evaluation.sequential import SequentialVerdict
from vla.evaluation.statistics import SuccessRate
from vla.evaluation.trials import Condition, EpisodeResult

T = TypeVar("T")
FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class PolicyIdentity:
    """What tells one policy from another."""

    name: str
    """As on the command line."""
    digest: str = ""
    """Of a checkpoint's files."""


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """One policy under all its conditions."""

    kind: Literal["evaluation"] = "evaluation"
    format: int = FORMAT
    policy: PolicyIdentity
    success: SuccessRate
    """Of all undisturbed episodes in the first language."""
    rows: tuple[ResultRow, ...]
    language: tuple[LanguageGap, ...] = ()
    robustness: tuple[RobustnessCurve, ...] = ()
    executions: tuple[ExecutionRate, ...] = ()
    """Where several ways to execute chunks were tried: the best first."""
    refused: tuple[str, ...] = ()
    """Why conditions were left out."""
    overlaps: tuple[str, ...] = ()
    """Which scenes the policy was trained on."""
    origins: dict[str, Origin]
    """What each environment says of itself, by name."""
    config: dict[str, Any]
    """How it was run."""
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object that `from_json` reads back; actions and the times of single inferences are left out."""
        return _object(self)

    @staticmethod
    def from_json(value: dict[str, Any], *, where: str) -> "EvaluationResult":
        """Read what `to_json` wrote; ``where`` names the source in errors."""
        return _read(EvaluationResult, value, where)


@dataclass(frozen=True, kw_only=True)
class ComparisonResult:
    """Two policies on the same scenes."""

    kind: Literal["comparison"] = "comparison"
    format: int = FORMAT
    a: EvaluationResult
    b: EvaluationResult
    rows: tuple[ComparisonRow, ...]
    sequential: SequentialVerdict | None = None
    """Where it was stopped by a sequential test."""
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object that `from_json` reads back."""
        return _object(self)

    @staticmethod
    def from_json(value: dict[str, Any], *, where: str) -> "ComparisonResult":
        """Read what `to_json` wrote; ``where`` names the source in errors."""
        return _read(ComparisonResult, value, where)


Result = EvaluationResult | ComparisonResult
_KINDS: dict[str, type[EvaluationResult] | type[ComparisonResult]] = {
    "evaluation": EvaluationResult,
    "comparison": ComparisonResult,
}


def result_from_json(value: Any, *, where: str) -> Result:
    """A result of either kind."""
    kind = _KINDS.get(str(value.get("kind"))) if isinstance(value, dict) else None
    if kind is None:
        raise VlaError(f"{where} is not a result of vla eval; give its --out folder, or the file of --json")
    return kind.from_json(value, where=where)


def require_same_scenes(a: EvaluationResult, b: EvaluationResult) -> None:
    """Refuse to compare two results that did not run on the same scenes; says every difference."""
    lines = list(_differences(a, b))
    if lines:
        raise VlaError(
            f"these results are not of the same scenes: {'; '.join(lines[:6])}"
            f"{f'; and {len(lines) - 6} more' if len(lines) > 6 else ''}. "
            "Evaluate both with the same --env, --split, --set, --seed and --episodes"
        )


def _differences(a: EvaluationResult, b: EvaluationResult) -> Iterator[str]:
    ours, theirs = ({_scene(row.condition): row for row in value.rows} for value in (a, b))
    for key in sorted(ours.keys() ^ theirs.keys()):
        yield f"only {'A' if key in ours else 'B'} has {key}"
    for env in sorted(a.origins.keys() & b.origins.keys()):
        ours_is, theirs_is = a.origins[env].contract, b.origins[env].contract
        if ours_is != theirs_is:
            yield f"contract of {env} {ours_is} ≠ {theirs_is}"
    for key in sorted(ours.keys() & theirs.keys()):
        first, second = ({e.seed: e for e in rows[key].episodes} for rows in (ours, theirs))
        if not first.keys() & second.keys():
            yield f"{key}: no seed in common"
        for seed in sorted(first.keys() & second.keys()):
            x, y = first[seed], second[seed]
            # Two versions of an environment may lay out other scenes from the same seed: the goal tells.
            if x.crash is None and y.crash is None and x.goal != y.goal:
                yield f"{key}, seed {seed}: goal {x.goal!r} ≠ {y.goal!r}"


def _scene(condition: Condition) -> str:
    parts = [condition.split or "default split", f"{condition.language} instruction"]
    parts += [f"executing {condition.execution}"] if condition.execution else []
    parts += [f"{k}={v}" for d in (condition.settings, condition.perturbation) for k, v in sorted(d.items())]
    return f"{condition.env} ({', '.join(parts)})"


def _plain(value: Any) -> Any:
    """Dataclasses as dictionaries, tuples as lists, at any depth; episodes as they say themselves."""
    if isinstance(value, EpisodeResult):
        return value.to_json()
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _object(result: Result) -> dict[str, Any]:
    return {f.name: _plain(getattr(result, f.name)) for f in fields(result)}


def _read(cls: type[T], value: dict[str, Any], where: str) -> T:
    if value.get("format") != FORMAT:
        raise VlaError(
            f"{where}: this result is of format {value.get('format')!r}, this version reads {FORMAT}; evaluate again"
        )
    try:
        return from_dict(cls, value, where=where)
    except ConfigError as error:
        raise VlaError(f"{error}; the result is damaged") from None
