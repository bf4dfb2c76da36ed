"""Results of ``vla eval`` as Markdown tables, for a README or a pull request."""

from collections.abc import Iterator, Sequence
from typing import Any

from vla.envs.metaworld.protocol import mt50_of, mt50_sentence
from vla.report.evaluation.facts import (
    DISTURBANCES,
    Loaded,
    comparisons,
    condition_name,
    evaluations,
    plain_rows,
    policy_name,
)
from vla.report.evaluation.sentences import comparison_sentence
from vla.report.numbers import GAP, interval, percent


def evaluation_tables(results: Sequence[Loaded]) -> str:
    """Success, then comparisons, language and robustness where there are any, and where it all comes from."""
    found = list(evaluations(results))
    parts = [_success(found)]
    parts += [
        f"{policy_name(r.value)}: {mt50_sentence(score)}\n" for r in found if (score := mt50_of(plain_rows(r.value)))
    ]
    parts += [_comparison(result) for result in comparisons(results)]
    parts += [table for table in (_language(found), _robustness(found)) if table]
    return "\n".join([*parts, *(f"- {line}" for line in _origins(found))]) + "\n"


def _success(found: Sequence[Loaded]) -> str:
    header = ("Policy", "Task", "Success", "95 % interval", "Episodes", "Progress", "Steps", "Inference", "Crashes")
    rows = []
    for result in found:
        for row in plain_rows(result.value):
            inference, condition = row["latency_ms"]["inference"], condition_name(row)
            rows.append(
                (
                    policy_name(result.value),
                    row["env"] + (f" ({condition})" if condition else ""),
                    percent(row["success"]["rate"]),
                    interval(row["success"]),
                    str(row["success"]["episodes"]),
                    "–" if row["progress"] is None else f"{row['progress']['mean']:.2f}",
                    "–" if row["mean_steps"] is None else f"{row['mean_steps']:.1f}",
                    "–" if inference is None else f"{inference['p50']:.1f} ms",
                    str(row["crashes"]),
                )
            )
    return _table(header, rows, left=2)


def _comparison(result: Loaded) -> str:
    header = ("Task", "A", "B", "A − B, points", "95 % interval", "Only A", "Only B", "p", "p, adjusted")
    rows = []
    for row in result.value["rows"]:
        disturbed = [f"{k} {v:g}" for k, v in row["perturbation"].items()]
        condition = ", ".join([part for part in (condition_name(row), *disturbed) if part])
        rows.append(
            (
                row["env"] + (f" ({condition})" if condition else ""),
                percent(row["a"]["rate"]),
                percent(row["b"]["rate"]),
                f"{100 * row['difference']:+.0f}",
                f"{100 * row['low']:+.0f} to {100 * row['high']:+.0f}",
                str(len(row["only_a"])),
                str(len(row["only_b"])),
                f"{row['p_value']:.2g}",
                f"{row['p_adjusted']:.2g}",
            )
        )
    value = result.value
    names = f"A: {policy_name(value['a'])}, B: {policy_name(value['b'])}. {comparison_sentence(value)}"
    return f"{_cell(names)}\n\n{_table(header, rows)}"


def _language(found: Sequence[Loaded]) -> str:
    header = ("Policy", "Task", "Instruction", "Success", "Behind the right one", "95 % interval", "Unsaid goal")
    rows = [
        (
            policy_name(result.value),
            row["env"] + (f" ({row['split']})" if row["split"] else ""),
            row["language"],
            percent(row["success"]["rate"]),
            "–" if row["gap"] is None else f"{100 * row['gap']['difference']:+.0f}",
            "–" if row["gap"] is None else f"{100 * row['gap']['low']:+.0f} to {100 * row['gap']['high']:+.0f}",
            "–" if row["success_unsaid"] is None else percent(row["success_unsaid"]["rate"]),
        )
        for result in found
        for row in result.value["language"]
    ]
    return _table(header, rows, left=3) if rows else ""


def _robustness(found: Sequence[Loaded]) -> str:
    rows = [
        (
            policy_name(result.value),
            curve["env"],
            f"{DISTURBANCES[curve['axis']][0]}, {DISTURBANCES[curve['axis']][1]}",
            ", ".join(f"{point['level']:g}: {percent(point['success']['rate'])}" for point in curve["points"]),
        )
        for result in found
        for curve in result.value["robustness"]
    ]
    return _table(("Policy", "Task", "Disturbance", "Success by level"), rows, left=4) if rows else ""


def _origins(found: Sequence[Loaded]) -> Iterator[str]:
    for result in found:
        origin: dict[str, Any] = result.value["provenance"]
        renderers = sorted({env["renderer"] for env in result.value["environments"].values()})
        yield _cell(
            f"{policy_name(result.value)}: `{origin['command']}`, seed {origin['seed']}, commit {origin['git']}, "
            f"mujoco {origin['versions'].get('mujoco')}, {', '.join(renderers)}, {origin['hardware']['cpu']}"
        )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """``left`` columns of words, and numbers behind them."""
    marks = ["---"] * left + ["---:"] * (len(header) - left)
    return "".join(f"| {' | '.join(_cell(cell) for cell in row)} |\n" for row in (header, marks, *rows))


def _cell(text: str) -> str:
    return " ".join(text.replace(GAP, " ").replace("|", "\\|").split())
