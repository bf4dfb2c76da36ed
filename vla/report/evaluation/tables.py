"""Results as rows of words, once for Markdown and the terminal, and as Markdown for a README or a pull request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vla.evaluation.conditions import AXES
from vla.evaluation.result import ComparisonResult
from vla.evaluation.rows import plain_rows
from vla.evaluation.suites import suite_scores
from vla.report.evaluation.facts import Evaluated, Loaded, comparisons, condition_name, evaluations, policy_name
from vla.report.evaluation.sentences import comparison_sentence, suite_sentence
from vla.report.numbers import GAP, interval, measurement, number, p_value, percent, points, points_interval


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of words; the first ``left`` columns are names, numbers behind them."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    left: int = 2


def success_table(found: Sequence[Evaluated]) -> Table:
    """One line for each policy and undisturbed condition."""
    header = ("Policy", "Task", "Success", "95 % interval", "Episodes", "Progress", "Steps", "Inference", "Crashes")
    table = Table(header=header)
    for one in found:
        for row in plain_rows(one.result.rows):
            rate, inference = row.success, row.latency_ms.inference
            special = condition_name(row.condition)
            table.rows.append(
                (
                    one.policy,
                    row.condition.env + (f" ({special})" if special else ""),
                    percent(rate.rate),
                    interval(rate),
                    f"{rate.successes}/{rate.episodes}",
                    number(row.progress.mean if row.progress else None, "%.2f"),
                    number(row.mean_steps),
                    number(inference.p50 if inference else None, "%.1f ms"),
                    str(row.crashes),
                )
            )
    return table


def comparison_table(result: ComparisonResult) -> Table:
    """One line for each condition that both ran under."""
    header = ("Task", "A", "B", "A − B, points", "95 % interval", "Only A", "Only B", "p", "p, adjusted")
    table = Table(header=header, left=1)
    for row in result.rows:
        special, pair = condition_name(row.condition), row.paired
        table.rows.append(
            (
                row.condition.env + (f" ({special})" if special else ""),
                percent(pair.a.rate),
                percent(pair.b.rate),
                points(pair.gap.difference),
                points_interval(pair.gap),
                str(len(pair.only_a)),
                str(len(pair.only_b)),
                p_value(pair.p_value),
                p_value(row.p_adjusted),
            )
        )
    return table


def language_table(found: Sequence[Evaluated]) -> Table:
    """One line for each instruction."""
    header = ("Policy", "Task", "Instruction", "Success", "Behind the right one", "95 % interval", "p", "Unsaid goal")
    table = Table(header=header, left=3)
    for one in found:
        for row in one.result.language:
            condition, behind = row.condition, row.behind
            gap = behind.gap if behind else None
            table.rows.append(
                (
                    one.policy,
                    condition.env + (f" ({condition.split})" if condition.split else ""),
                    condition.language,
                    percent(row.success.rate),
                    points(gap.difference) if gap else "–",
                    points_interval(gap) if gap else "–",
                    p_value(behind.p_value) if behind else "–",
                    percent(row.success_unsaid.rate) if row.success_unsaid else "–",
                )
            )
    return table


def execution_table(found: Sequence[Evaluated]) -> Table:
    """One line for each way to execute chunks, the best first."""
    table = Table(header=("Policy", "Executing", "Success", "95 % interval", "Episodes", "Steps"))
    for one in found:
        for way in one.result.executions:
            rate = way.success
            counts = f"{rate.successes}/{rate.episodes}"
            steps = number(way.mean_steps)
            table.rows.append((one.policy, str(way.execution), percent(rate.rate), interval(rate), counts, steps))
    return table


def robustness_table(found: Sequence[Evaluated]) -> Table:
    """One line for each disturbance."""
    table = Table(header=("Policy", "Task", "Disturbance", "Success by level"), left=4)
    for one in found:
        for curve in one.result.robustness:
            axis = AXES[curve.axis]
            levels = ", ".join(f"{level.level:g}: {percent(level.success.rate)}" for level in curve.levels)
            table.rows.append((one.policy, curve.condition.env, f"{axis.title}, {axis.unit}", levels))
    return table


def metrics_table(found: Sequence[Evaluated]) -> Table:
    """The means of what the environments measured, one column for each name."""
    rows = [(one.policy, row) for one in found for row in plain_rows(one.result.rows)]
    names = list(dict.fromkeys(name for _, row in rows for name in row.metrics))
    words = [name.removesuffix("_m").replace("_", " ") for name in names]
    table = Table(header=("Policy", "Task", *words))
    for policy, row in rows if names else ():
        special = condition_name(row.condition)
        means = [measurement(name, row.metrics.get(name)) for name in names]
        table.rows.append((policy, row.condition.env + (f" ({special})" if special else ""), *means))
    return table


def evaluation_tables(results: Sequence[Loaded]) -> str:
    """Markdown: success, comparisons, language, robustness, where there are any, and where it all comes from."""
    found = list(evaluations(results))
    parts = [_markdown(success_table(found))]
    for one in found:
        parts += [f"{one.policy}: {suite_sentence(score)}\n" for score in suite_scores(one.result.rows)]
    for result in comparisons(results):
        names = f"A: {policy_name(result.a.policy)}, B: {policy_name(result.b.policy)}. {comparison_sentence(result)}"
        parts.append(f"{_cell(names)}\n\n{_markdown(comparison_table(result))}")
    for table in (language_table(found), robustness_table(found), execution_table(found), metrics_table(found)):
        if table.rows:
            parts.append(_markdown(table))
    return "\n".join([*parts, *(f"- {line}" for line in _origins(found))]) + "\n"


def _origins(found: Sequence[Evaluated]) -> Iterator[str]:
    for one in found:
        origin = one.result.provenance
        renderers = sorted({env.renderer for env in one.result.origins.values()})
        yield _cell(
            f"{one.policy}: `{origin['command']}`, seed {origin['seed']}, commit {origin['git']}, "
            f"mujoco {origin['versions'].get('mujoco')}, {', '.join(renderers)}, {origin['hardware']['cpu']}"
        )


def _markdown(table: Table) -> str:
    marks = ["---"] * table.left + ["---:"] * (len(table.header) - table.left)
    lines: list[Sequence[str]] = [table.header, marks, *table.rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in row)} |\n" for row in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace(GAP, " ").replace("|", "\\|").split())
