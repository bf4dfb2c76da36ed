"""Results with made-up numbers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from vla.evaluation.comparison import compare_rows
from vla.evaluation.conditions import language_gaps, robustness_curves
from vla.evaluation.result import ComparisonResult, EvaluationResult, PolicyIdentity
from vla.evaluation.rows import ResultRow, overall, summarise, task_rows
from vla.evaluation.runner import Origin
from vla.evaluation.sequential import SequentialTest
from vla.evaluation.trials import Condition, EpisodeResult
from vla.report.evaluation.facts import Loaded

_CONDITIONS = [
    Condition(env="tabletop/place"),
    Condition(env="tabletop/place", language="blank"),
    Condition(env="tabletop/place", language="wrong"),
    Condition(env="tabletop/place", perturbation={"image_noise": 5.0}),
    Condition(env="tabletop/lift", split="distractors"),
]
_PROVENANCE: dict[str, Any] = {
    "command": "vla eval x",
    "git": "0123+dirty",
    "seed": 0,
    "versions": {"mujoco": "3.3.0"},
    "hardware": {"cpu": "a | b"},
}


def result_of(name: str, rows: Sequence[ResultRow], **changes: Any) -> EvaluationResult:
    values: dict[str, Any] = {
        "policy": PolicyIdentity(name=name),
        "success": overall(task_rows(rows)),
        "rows": tuple(rows),
        "language": tuple(language_gaps(rows)),
        "robustness": tuple(robustness_curves(rows)),
        "origins": {"tabletop/place": Origin(env="tabletop/place", renderer="egl: llvmpipe", contract="abc")},
        "config": {"seed": 0},
        "provenance": _PROVENANCE,
    }
    return EvaluationResult(**(values | changes))


def evaluation(
    name: str, rate: float, *, crash: bool = False, conditions: Sequence[Condition] = _CONDITIONS
) -> EvaluationResult:
    rng = np.random.default_rng(len(name))
    rows = []
    for condition in conditions:
        episodes = [
            EpisodeResult(
                seed=seed,
                instruction="go <there>",
                goal=f"goal {seed % 3}",
                success=bool(rng.random() < rate),
                progress=0.5,
                steps=20,
                clipped=int(crash),
                latencies_ms=(3.0, 5.0),
                metrics={"distance_m": 0.012, "<held>": 1.0},
                crash="step 37: FatalError: <gone>" if crash and seed == 4 else None,
            )
            for seed in range(30)
        ]
        rows.append(summarise(condition, episodes))
    return result_of(name, rows, refused=("tabletop/lift: nothing else to say",) if crash else ())


def told(name: str = "runs/p/checkpoint", **successes: int) -> EvaluationResult:
    """100 scenes of tabletop/place, by successes under each instruction; ``unsaid`` with wrong ones."""
    unsaid = successes.pop("unsaid", 0)
    rows = []
    for language, count in successes.items():
        episodes = [
            EpisodeResult(
                seed=seed,
                instruction="go",
                goal="go",
                success=seed < count,
                success_unsaid=language == "wrong" and seed >= 100 - unsaid,
                steps=20,
            )
            for seed in range(100)
        ]
        rows.append(summarise(Condition(env="tabletop/place", language=language), episodes))  # type: ignore[arg-type]
    return result_of(name, rows)


def comparison(*, sequential: bool) -> ComparisonResult:
    a, b = evaluation("runs/new/checkpoint", 0.9, crash=True), evaluation("runs/old/checkpoint", 0.3)
    test = SequentialTest(scenes=30)
    while not test.over:
        test.add(True, False)
    verdict = test.verdict() if sequential else None
    return ComparisonResult(a=a, b=b, rows=compare_rows(a.rows, b.rows), sequential=verdict, provenance=_PROVENANCE)


@pytest.fixture(scope="session")
def make_evaluation() -> Callable[..., EvaluationResult]:
    return evaluation


@pytest.fixture(scope="session")
def make_told() -> Callable[..., EvaluationResult]:
    return told


@pytest.fixture(scope="session")
def make_comparison() -> Callable[..., ComparisonResult]:
    return comparison


@pytest.fixture(scope="session")
def results() -> list[Loaded]:
    values = [comparison(sequential=True), evaluation("random", 0.1)]
    return [Loaded(name=f"runs/{i}", result=value) for i, value in enumerate(values)]
