"""Results in the terminal: the tables of the report, and its sentences."""

from collections.abc import Sequence
from typing import Any

from vla.evaluation.result import ComparisonResult, EvaluationResult, Result
from vla.evaluation.suites import suite_scores
from vla.report.evaluation.facts import Evaluated, Loaded, full_name
from vla.report.evaluation.sentences import (
    comparison_sentence,
    evidence_sentence,
    execution_sentence,
    suite_sentence,
    troubles,
)
from vla.report.evaluation.tables import (
    Table,
    comparison_table,
    execution_table,
    language_table,
    metrics_table,
    robustness_table,
    success_table,
)
from vla.report.numbers import GAP

_SEEDS_SHOWN = 12


def print_result(result: Result, console: Any) -> None:
    """Print to a rich console what a result says."""
    if isinstance(result, ComparisonResult):
        _print_comparison(result, console)
    else:
        _print_evaluation(result, console)
    for trouble in troubles([Loaded(name="", result=result)]):
        console.print(_plain(trouble), style="red", markup=False)


def _print_evaluation(result: EvaluationResult, console: Any) -> None:
    found = [Evaluated(name="", result=result)]
    _print_table(success_table(found), console, bold="Success")
    for score in suite_scores(result.rows):
        console.print(suite_sentence(score), style="bold", markup=False)
    for table in (language_table(found), robustness_table(found), execution_table(found), metrics_table(found)):
        if table.rows:
            console.print()
            _print_table(table, console)
    if result.executions:
        console.print(execution_sentence(result.executions), style="bold", markup=False)


def _print_comparison(result: ComparisonResult, console: Any) -> None:
    for side, one in (("A", result.a), ("B", result.b)):
        console.print(f"{side}: {one.policy.name}", markup=False)
    _print_table(comparison_table(result), console)
    for row in result.rows:
        for seeds, words in (
            (row.paired.only_a, "A succeeds and B does not"),
            (row.paired.only_b, "B succeeds and A does not"),
        ):
            if seeds:
                console.print(f"{full_name(row.condition)}, seeds where {words}: {_seeds(seeds)}", markup=False)
    console.print(_plain(comparison_sentence(result)), style="bold", markup=False)
    if result.sequential:
        console.print(_plain(evidence_sentence(result.sequential)), markup=False)


def _print_table(table: Table, console: Any, bold: str = "") -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=None, padding=(0, 2, 0, 0))
    alike = len({row[0] for row in table.rows}) == 1 and table.header[0] == "Policy"
    first = 1 if alike and len(table.header) > 1 else 0  # one policy alone was named above
    for i, name in list(enumerate(table.header))[first:]:
        drawn.add_column(
            name,
            justify="left" if i < table.left else "right",
            style="bold" if name == bold else "",
        )
    for row in table.rows:
        drawn.add_row(*(Text(_plain(cell)) for cell in row[first:]))
    console.print(drawn)


def _seeds(seeds: Sequence[int]) -> str:
    shown = ", ".join(map(str, seeds[:_SEEDS_SHOWN]))
    return shown + (f" and {len(seeds) - _SEEDS_SHOWN} more" if len(seeds) > _SEEDS_SHOWN else "")


def _plain(text: str) -> str:
    return text.replace(GAP, " ")
