"""Any set of results of ``vla eval`` as one HTML file, with its charts inside and no request to anywhere."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vla.evaluation.robustness import AXES
from vla.report import numbers
from vla.report.evaluation.facts import (
    DISTURBANCES,
    Loaded,
    Value,
    comparisons,
    condition_name,
    count_tasks,
    evaluations,
    plain_rows,
    policy_name,
    task_rows,
)
from vla.report.evaluation.sentences import comparison_sentence, headline
from vla.report.level_chart import evidence_chart, level_chart
from vla.report.template import render

_SEEDS_SHOWN = 60


def render_evaluations(results: Sequence[Loaded], *, title: str = "Evaluation") -> str:
    """The page for these results; parts that they lack are left out."""
    found = list(evaluations(results))
    view = {
        "title": title,
        "headline": headline(results),
        "rows": _rows(found),
        "comparisons": [_comparison(i, result) for i, result in enumerate(comparisons(results))],
        "language": _language(found),
        "robustness": _robustness(found),
        "goals": _goals(found),
        "troubles": list(_troubles(found)),
        "origins": [_origin(result) for result in found],
    }
    return render(
        "evaluation/page.html.j2",
        view,
        percent=numbers.percent,
        interval=numbers.interval,
        points=signed_points,
        p_value=p_value,
        duration=numbers.duration,
    )


def signed_points(difference: float) -> str:
    """A difference of rates in percentage points, with its sign and a true minus."""
    text = f"{100 * difference:+.0f}"
    return "0" if text in ("+0", "-0") else text.replace("-", "−")


def p_value(p: float) -> str:
    """``0.03``, ``< 0.0001``."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _rows(found: Sequence[Loaded]) -> list[dict[str, Any]]:
    """The success table: one line for each policy, task, split and language; a mean where a policy has many tasks."""
    rows = []
    for result in found:
        value = result.value
        for row in plain_rows(value):
            inference = row["latency_ms"]["inference"]
            rows.append(
                {
                    **{key: row[key] for key in ("success", "progress", "mean_steps", "crashes", "clipped_steps")},
                    "policy": policy_name(value),
                    "task": row["env"],
                    "condition": condition_name(row),
                    "inference": inference,
                    "total": False,
                }
            )
        tasks = task_rows(value)
        if len(tasks) > 1:
            rows.append(_total(value, tasks))
    for before, row in zip([None, *rows], rows, strict=False):
        row["first"] = before is None or before["policy"] != row["policy"]
    return rows


def _total(value: Value, tasks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    progress = [row["progress"]["mean"] for row in tasks if row["progress"]]
    return {
        "success": value["success"],
        "progress": {"mean": sum(progress) / len(progress)} if progress else None,
        "mean_steps": None,
        "crashes": sum(row["crashes"] for row in tasks),
        "clipped_steps": sum(row["clipped_steps"] for row in tasks),
        "policy": policy_name(value),
        "task": "all of these",
        "condition": f"{count_tasks(tasks)}, all episodes together",
        "inference": None,
        "total": True,
    }


def _comparison(number: int, result: Loaded) -> dict[str, Any]:
    value = result.value
    test = value["sequential"]
    rows = []
    for row in value["rows"]:
        disturbed = [f"{k} {v:g}" for k, v in row["perturbation"].items()]
        condition = ", ".join([part for part in (condition_name(row), *disturbed) if part])
        name = f"{row['env']}, {condition}" if condition else row["env"]
        flips = [(words, row[side][:_SEEDS_SHOWN], len(row[side])) for side, words in _SIDES if row[side]]
        rows.append({**row, "condition": condition, "name": name, "flips": flips})
    chart = test and evidence_chart(
        f"evidence{number}", test["log10_e"], alpha=test["alpha"], description="Evidence by scene"
    )
    return {
        "a": policy_name(value["a"]),
        "b": policy_name(value["b"]),
        "sentence": comparison_sentence(value),
        "rows": rows,
        "sequential": test,
        "chart": chart,
    }


_SIDES = (("only_a", "A succeeds, B does not"), ("only_b", "B succeeds, A does not"))


def _language(found: Sequence[Loaded]) -> list[dict[str, Any]]:
    several = len(found) > 1
    return [
        {**row, "name": f"{policy_name(result.value)}, {row['env']}" if several else row["env"]}
        for result in found
        for row in result.value["language"]
    ]


def _robustness(found: Sequence[Loaded]) -> list[dict[str, str]]:
    """One chart for each kind of disturbance, one line in it for each policy, task and split."""
    charts = []
    curves = [(policy_name(result.value), curve) for result in found for curve in result.value["robustness"]]
    several = len({policy for policy, _ in curves}) > 1
    for axis in AXES:
        title, unit = DISTURBANCES[axis]
        lines = [
            (_line_name(policy if several else "", curve), curve["points"])
            for policy, curve in curves
            if curve["axis"] == axis
        ]
        svg = level_chart(axis, lines, unit=unit, description=f"Success by {title.lower()} ({unit})")
        if svg:
            charts.append({"title": title, "svg": svg})
    return charts


def _line_name(policy: str, curve: Mapping[str, Any]) -> str:
    return ", ".join(part for part in (policy, curve["env"], condition_name(curve)) if part)


def _goals(found: Sequence[Loaded]) -> list[dict[str, Any]]:
    """Success by goal of every task that has more than one, worst first."""
    groups = []
    for result in found:
        for row in task_rows(result.value):
            if 1 < len(row["instructions"]) <= 40:
                goals = sorted(row["instructions"], key=lambda goal: goal["success"]["rate"])
                name = ", ".join(part for part in (policy_name(result.value), row["env"], condition_name(row)) if part)
                groups.append({"name": name, "goals": goals})
    return groups


def _troubles(found: Sequence[Loaded]) -> Iterator[str]:
    """What did not go as it should, apart from failing: a sentence for each policy and kind."""
    for result in found:
        who, rows = policy_name(result.value), result.value["rows"]
        crashed = [row for row in rows if row["crashes"]]
        failed = [row for row in rows if row["failures"]]
        clipped = sum(row["clipped_steps"] for row in rows)
        if crashed:
            count = sum(row["crashes"] for row in crashed)
            yield (
                f"{who}: {_times(count, 'episode')} crashed in the simulator and {'does' if count == 1 else 'do'} "
                f"not count. The first, in {crashed[0]['env']}: {crashed[0]['crash']}"
            )
        if failed:
            count = sum(row["failures"] for row in failed)
            yield (
                f"{who}: {_times(count, 'episode')} ended because the policy broke down, a failure. "
                f"The first, in {failed[0]['env']}: {failed[0]['failure']}"
            )
        if clipped:
            share = numbers.percent(clipped / max(1, sum(row["steps"] for row in rows)))
            yield f"{who}: {_times(clipped, 'command')} ({share}) outside the limits of the contract, clipped to them."
        for reason in result.value["refused"]:
            yield f"Left out: {reason}"


def _times(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _origin(result: Loaded) -> dict[str, Any]:
    value = result.value
    origin = value["provenance"]
    git = origin.get("git")
    checkout = [f"git checkout {git.removesuffix('+dirty')}"] if git else []
    return {
        "name": result.name,
        "policy": str(value["policy"]["name"]),
        "rows": list(_flat({k: value[k] for k in ("policy", "environments", "config", "provenance")})),
        "reproduce": [*checkout, origin["command"]],
        "dirty": bool(git and git.endswith("+dirty")),
        "seconds": sum(row["seconds"] for row in value["rows"]),
    }


def _flat(value: Value, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings as rows of dotted names and values."""
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _flat(item, f"{prefix}{key}.")
        elif isinstance(item, list):
            yield f"{prefix}{key}", ", ".join(map(str, item)) or "–"
        else:
            yield f"{prefix}{key}", "–" if item is None or item == {} else re.sub(r"\s+", " ", str(item))
