"""Any set of results of ``vla eval`` as one HTML file, with charts and videos inside and no request to anywhere."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vla.evaluation.conditions import AXES
from vla.evaluation.result import ComparisonResult
from vla.evaluation.rows import ResultRow, plain_rows, task_rows
from vla.evaluation.suites import suite_scores
from vla.report import numbers
from vla.report.charts import evidence_chart, length_chart, level_chart
from vla.report.evaluation.clips import Clip, clip_views
from vla.report.evaluation.facts import (
    OUTCOMES,
    YARDSTICKS,
    Evaluated,
    Loaded,
    chance,
    comparisons,
    condition_name,
    count_tasks,
    evaluations,
    full_name,
    outcome_counts,
    policy_name,
    subject,
)
from vla.report.evaluation.sentences import (
    comparison_sentence,
    evidence_sentence,
    execution_sentence,
    headline,
    suite_sentence,
    troubles,
)
from vla.report.evaluation.tables import execution_table, metrics_table
from vla.report.evaluation.training import Training, training_charts
from vla.report.template import render

_SEEDS_SHOWN = 60
_FEW = 8
"""Conditions whose ends are drawn one by one."""
_MOST_GOALS = 40


def render_evaluations(
    results: Sequence[Loaded],
    *,
    title: str = "Evaluation",
    training: Training | None = None,
    clips: Sequence[Clip] = (),
) -> str:
    """The page for these results; parts that they lack are left out."""
    found = list(evaluations(results))
    view = {
        "title": title,
        "headline": headline(results),
        "rows": _rows(found),
        "suites": [f"{one.policy}: {suite_sentence(s)}" for one in found for s in suite_scores(one.result.rows)],
        "comparisons": [_comparison(i, result) for i, result in enumerate(comparisons(results))],
        "language": _language(found),
        "robustness": _robustness(found),
        "training": training,
        "curves": training_charts(training) if training else [],
        "clips": clip_views(clips),
        "goals": _goals(found),
        "ends": _ends(found),
        "lengths": _lengths(results),
        "executions": execution_table(found),
        "best_executions": [execution_sentence(one.result.executions) for one in found if one.result.executions],
        "metrics": metrics_table(found),
        "troubles": list(troubles(results)),
        "origins": [_origin(one) for one in found],
    }
    return render("evaluation/page.html.j2", view, n=numbers, outcome_words=OUTCOMES)


def _rows(found: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """The success table: one line for each policy, task, split and language; a mean where a policy has many tasks."""
    rows: list[dict[str, Any]] = []
    for one in found:
        mine: list[dict[str, Any]] = [
            {
                "task": row.condition.env,
                "condition": condition_name(row.condition),
                "success": row.success,
                "chance": chance(row.condition),
                "progress": row.progress and row.progress.mean,
                "steps": row.mean_steps,
                "inference": row.latency_ms.inference,
                "crashes": row.crashes,
                "total": False,
            }
            for row in plain_rows(one.result.rows)
        ]
        tasks = task_rows(one.result.rows)
        if len(tasks) > 1:
            mine.append(_total(one, tasks))
        mine = [{"policy": one.policy, "first": False, **row} for row in mine]
        if mine:
            mine[0] |= {"first": True, "note": YARDSTICKS.get(one.policy)}
        rows += mine
    return rows


def _total(one: Evaluated, tasks: Sequence[ResultRow]) -> dict[str, Any]:
    progress = [row.progress.mean for row in tasks if row.progress]
    return {
        "task": count_tasks(tasks),
        "condition": "all episodes together",
        "success": one.result.success,
        "chance": None,
        "progress": sum(progress) / len(progress) if progress else None,
        "steps": None,
        "inference": None,
        "crashes": sum(row.crashes for row in tasks),
        "total": True,
    }


def _comparison(place: int, result: ComparisonResult) -> dict[str, Any]:
    test = result.sequential
    rows = []
    for row in result.rows:
        pair = row.paired
        sides = (("A succeeds, B does not", pair.only_a), ("B succeeds, A does not", pair.only_b))
        flips = [(words, seeds[:_SEEDS_SHOWN], len(seeds)) for words, seeds in sides if seeds]
        special = condition_name(row.condition)
        rows.append(
            {
                "env": row.condition.env,
                "condition": special,
                "name": full_name(row.condition),
                "paired": pair,
                "p_adjusted": row.p_adjusted,
                "flips": flips,
            }
        )
    chart = test and evidence_chart(f"evidence{place}", test.log10_e, alpha=test.alpha, description="Evidence by scene")
    return {
        "a": policy_name(result.a.policy),
        "b": policy_name(result.b.policy),
        "sentence": comparison_sentence(result),
        "rows": rows,
        "sequential": test,
        "evidence": test and evidence_sentence(test),
        "chart": chart,
    }


def _language(found: Sequence[Evaluated]) -> list[dict[str, Any]]:
    tested = [one for one in found if one.result.language]
    return [
        {
            "name": f"{one.policy}, {gap.condition.env}" if len(tested) > 1 else gap.condition.env,
            "split": gap.condition.split,
            "language": gap.condition.language,
            "success": gap.success,
            "unsaid": gap.success_unsaid,
            "behind": gap.behind,
            "chance": chance(gap.condition),
        }
        for one in tested
        for gap in one.result.language
    ]


def _robustness(found: Sequence[Evaluated]) -> list[dict[str, str]]:
    """One chart for each kind of disturbance, one line in it for each policy, task and split."""
    curves = [(one.policy, curve) for one in found for curve in one.result.robustness]
    several = len({policy for policy, _ in curves}) > 1
    charts = []
    for name, axis in AXES.items():
        lines = [
            (full_name(curve.condition, policy if several else ""), curve.levels)
            for policy, curve in curves
            if curve.axis == name
        ]
        svg = level_chart(name, lines, unit=axis.unit, description=f"Success by {axis.title.lower()} ({axis.unit})")
        if svg:
            charts.append({"title": axis.title, "svg": svg})
    return charts


def _goals(found: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """Success by goal of every task that has more than one, worst first."""
    found = [one for one in found if one.policy not in YARDSTICKS] or list(found)
    return [
        {
            "name": full_name(row.condition, one.policy),
            "goals": sorted(row.goals, key=lambda goal: goal.success.rate),
        }
        for one in found
        for row in task_rows(one.result.rows)
        if 1 < len(row.goals) <= _MOST_GOALS
    ]


def _ends(found: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """How the episodes of each condition ended, where these are few."""
    rows = [(one, row) for one in found for row in plain_rows(one.result.rows)]
    if len(rows) > _FEW:
        return []
    tasks = {row.condition.env for _, row in rows}
    return [
        {
            "name": full_name(row.condition, one.policy).replace(f", {row.condition.env}", "")
            if len(tasks) == 1
            else full_name(row.condition, one.policy),
            "counts": outcome_counts(row),
        }
        for one, row in rows
    ]


def _lengths(results: Sequence[Loaded]) -> str | None:
    """How long the episodes of the page's subject took, where it has one task."""
    main = subject(results)
    tasks = task_rows(main.result.rows) if main else []
    if len(tasks) != 1:
        return None
    steps = [(e.success, e.steps) for e in tasks[0].episodes if e.crash is None]
    succeeded, failed = ([n for success, n in steps if success is wanted] for wanted in (True, False))
    return length_chart("lengths", succeeded, failed, description="Distribution of the steps that episodes took")


def _origin(one: Evaluated) -> dict[str, Any]:
    result = one.result
    origin = result.provenance
    git = origin.get("git")
    checkout = [f"git checkout {git.removesuffix('+dirty')}"] if git else []
    listed = {
        "policy": asdict(result.policy),
        "environments": {name: asdict(env) for name, env in result.origins.items()},
        "config": result.config,
        "provenance": origin,
    }
    return {
        "name": one.name,
        "policy": result.policy.name,
        "rows": list(_flat(listed)),
        "reproduce": [*checkout, origin["command"]],
        "dirty": bool(git and git.endswith("+dirty")),
        "seconds": sum(row.seconds for row in result.rows),
    }


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings as rows of dotted names and values."""
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _flat(item, f"{prefix}{key}.")
        elif isinstance(item, list | tuple):
            yield f"{prefix}{key}", ", ".join(map(str, item)) or "–"
        else:
            yield f"{prefix}{key}", "–" if item is None or item == {} else re.sub(r"\s+", " ", str(item))
