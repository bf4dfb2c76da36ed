"""What ``vla eval`` prints: tables of results for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from vla.cli.command import console
from vla.envs.metaworld.protocol import mt50_of, mt50_sentence

Value = Mapping[str, Any]


def show_evaluation(value: Value) -> None:
    """Success by condition, then what words and disturbances change."""
    rows = [row for row in value["rows"] if not row["perturbation"]]
    _show_rows(rows)
    if score := mt50_of(rows):
        console().print(mt50_sentence(score), style="bold", markup=False)
    for row in value["rows"]:
        for kind, what in (("crashes", "crash"), ("failures", "failure")):
            if row[kind]:
                words = "episodes crashed" if kind == "crashes" else "episodes ended by the policy's own failure"
                console().print(f"{row['env']}: {row[kind]} {words}, the first: {row[what]}", style="red", markup=False)
    if value["language"]:
        _show_language(value["language"])
    if value["robustness"]:
        _show_robustness(value["robustness"])


def show_comparison(value: Value) -> None:
    """Who succeeded where, and the tests."""
    table = _table("task", "split", "A", "B", "A - B", "95 % interval", "p", "p, adjusted", "only A", "only B")
    for row in value["rows"]:
        table.add_row(
            _task(row),
            row["split"] or "–",
            _percent(row["a"]["rate"]),
            _percent(row["b"]["rate"]),
            _points(row["difference"]),
            f"{_points(row['low'])} to {_points(row['high'])}",
            f"{row['p_value']:.2g}",
            f"{row['p_adjusted']:.2g}",
            str(len(row["only_a"])),
            str(len(row["only_b"])),
        )
    console().print(f"A: {value['a']['policy']['name']}\nB: {value['b']['policy']['name']}", markup=False)
    console().print(table)
    for row in value["rows"]:
        for key, words in (("only_a", "A succeeds and B does not"), ("only_b", "B succeeds and A does not")):
            if row[key]:
                console().print(f"{_task(row)}, seeds where {words}: {_seeds(row[key])}", markup=False)
    if value["sequential"]:
        console().print(sequential_sentence(value["sequential"]), style="bold", markup=False)


def sequential_sentence(test: Value) -> str:
    """The verdict of a sequential test in words."""
    what = {"a": "A is better", "b": "B is better", "undecided": "no difference was shown"}[test["verdict"]]
    why = {
        "decided": f"decided after {test['scenes']} of at most {test['most_scenes']} scenes",
        "hopeless": f"stopped after {test['scenes']} scenes: those left could not have decided",
        "no more scenes": f"after all {test['scenes']} scenes",
    }[test["why"]]
    told, share = test["only_a"] + test["only_b"], test["share"]
    return (
        f"{what} ({why}): E = {test['e_value']:.3g}, p = {test['p_value']:.2g} at any time. A won {test['only_a']} of "
        f"{told} scenes in which one succeeded alone: {share['low']:.0%} to {share['high']:.0%} of such scenes, "
        f"{1 - test['alpha']:.0%} at all times together"
    )


def _show_rows(rows: Sequence[Value]) -> None:
    table = _table("task", "split", "says", "success", "95 % interval", "progress", "steps", "ms p50", "p95", "crashes")
    for row in rows:
        rate, inference = row["success"], row["latency_ms"]["inference"] or {}
        table.add_row(
            row["env"],
            row["split"] or "–",
            row["language"],
            f"[bold]{_percent(rate['rate'])}[/bold] ({rate['successes']}/{rate['episodes']})",
            f"{_percent(rate['low'])} to {_percent(rate['high'])}",
            "–" if row["progress"] is None else f"{row['progress']['mean']:.2f}",
            "–" if row["mean_steps"] is None else f"{row['mean_steps']:.1f}",
            *("–" if key not in inference else f"{inference[key]:.1f}" for key in ("p50", "p95")),
            str(row["crashes"]),
        )
    console().print(table)


def _show_language(gaps: Sequence[Value]) -> None:
    table = _table(
        "task", "split", "instruction", "success", "behind the right one", "95 % interval", "p", "unsaid goal"
    )
    for row in gaps:
        gap, unsaid = row["gap"], row["success_unsaid"]
        table.add_row(
            row["env"],
            row["split"] or "–",
            row["language"],
            _percent(row["success"]["rate"]),
            "" if gap is None else _points(gap["difference"]),
            "" if gap is None else f"{_points(gap['low'])} to {_points(gap['high'])}",
            "" if gap is None else f"{gap['p_value']:.2g}",
            "" if unsaid is None else _percent(unsaid["rate"]),
        )
    console().print(table)


def _show_robustness(curves: Sequence[Value]) -> None:
    table = _table("task", "split", "disturbance", "success by level")
    for curve in curves:
        points = ", ".join(f"{p['level']:g}: {_percent(p['success']['rate'])}" for p in curve["points"])
        table.add_row(curve["env"], curve["split"] or "–", curve["axis"], points)
    console().print(table)


def _table(*columns: str) -> Any:
    from rich.table import Table

    return Table(*columns, box=None, padding=(0, 2, 0, 0))


def _task(row: Value) -> str:
    extra = "" if row["language"] == "right" else f", {row['language']} instruction"
    disturbed = "".join(f", {k}={v:g}" for k, v in row["perturbation"].items())
    return f"{row['env']}{extra}{disturbed}"


def _seeds(seeds: Sequence[int]) -> str:
    shown = ", ".join(map(str, seeds[:12]))
    return shown + (f" and {len(seeds) - 12} more" if len(seeds) > 12 else "")


def _percent(rate: float) -> str:
    return f"{rate:.0%}" if rate in (0, 1) or 0.005 <= rate < 0.995 else f"{rate:.1%}"


def _points(difference: float) -> str:
    """Percentage points with their sign."""
    return f"{100 * difference:+.0f}"
