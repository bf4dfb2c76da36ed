"""A result is what its file says, and only results of the same scenes can be compared."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vla.core.errors import VlaError
from vla.evaluation.comparison import compare_rows
from vla.evaluation.conditions import language_gaps, robustness_curves
from vla.evaluation.result import (
    ComparisonResult,
    EvaluationResult,
    PolicyIdentity,
    require_same_scenes,
    result_from_json,
)
from vla.evaluation.rows import ResultRow, overall, summarise
from vla.evaluation.runner import Origin
from vla.evaluation.sequential import SequentialTest
from vla.evaluation.trials import Condition, EpisodeResult


def _row(outcomes: str, *, env: str = "x", language: Any = "right", settings: Any = None, **noise: Any) -> ResultRow:
    """An episode for each letter: s success, f failure, c crash."""
    episodes = [
        EpisodeResult(
            seed=seed,
            instruction="go",
            goal=f"goal {seed}",
            success=letter == "s",
            metrics={"distance_m": 0.25 * seed},
            steps=9,
            latencies_ms=(1.0, 2.0),
            actions=np.zeros((9, 2), np.float32),
            crash="boom" if letter == "c" else None,
        )
        for seed, letter in enumerate(outcomes)
    ]
    condition = Condition(env=env, language=language, settings=settings or {}, perturbation=noise)
    return summarise(condition, episodes)


def test_results_are_read_back_as_they_were_written() -> None:
    rows = (_row("ssf"), _row("sff", language="wrong"), _row("ffc", image_noise=5.0, settings={"blocks": 3}))
    plain = replace(_result(*rows), language=tuple(language_gaps(rows)), robustness=tuple(robustness_curves(rows)))
    test = SequentialTest(scenes=9)
    test.add(True, False)
    compared = compare_rows(plain.rows, plain.rows)
    both = ComparisonResult(a=plain, b=plain, rows=compared, sequential=test.verdict(), provenance={"seed": 0})
    for result in (plain, both):
        written = json.loads(json.dumps(result.to_json(), allow_nan=False))
        again = result_from_json(written, where="result.json")
        assert json.loads(json.dumps(again.to_json())) == written
    assert again.a.rows[0].metrics == {"distance_m": 0.25}
    assert again.rows == compared


def test_what_cannot_be_read_is_refused_in_one_line() -> None:
    value = json.loads(json.dumps(_result(_row("s")).to_json()))
    old = value | {"format": 1}
    extra = value | {"rows": [value["rows"][0] | {"steps": "many"}]}
    for broken, message in (
        ({"kind": "bench"}, "r.json is not a result of vla eval"),
        ([], "r.json is not a result of vla eval"),
        (old, "r.json: this result is of format 1, this version reads 2; evaluate again"),
        (extra, r"rows\[0\].steps must be int, got 'many'.*damaged"),
    ):
        with pytest.raises(VlaError, match=message):
            result_from_json(broken, where="r.json")


def _result(*rows: ResultRow, contract: str = "abc") -> EvaluationResult:
    return EvaluationResult(
        policy=PolicyIdentity(name="p"),
        success=overall(rows),
        rows=rows,
        origins={row.condition.env: Origin(env=row.condition.env, renderer="r", contract=contract) for row in rows},
        config={},
        provenance={},
    )


def test_results_of_other_scenes_are_refused() -> None:
    a = _result(_row("ss"))
    require_same_scenes(a, _result(_row("sf")))
    row = _row("ss")
    moved = replace(row, episodes=(row.episodes[0], replace(row.episodes[1], goal="elsewhere")))
    for b, message in (
        (_result(_row("ss", settings={"blocks": 3})), "only A has x .default split, right instruction"),
        (_result(_row("ss"), contract="def"), "contract of x abc ≠ def"),
        (_result(_row("ss", env="y")), "only A has x"),
        (_result(moved), "seed 1: goal 'goal 1' ≠ 'elsewhere'"),
    ):
        with pytest.raises(VlaError, match=message):
            require_same_scenes(a, b)
