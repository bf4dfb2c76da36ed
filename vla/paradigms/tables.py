"""The comparison for people: Markdown, and one HTML page."""

from collections.abc import Sequence
from typing import Any

from vla.paradigms.framework import COMPARISON, PARADIGMS
from vla.paradigms.measuring import Measurement
from vla.paradigms.probes import KINDS
from vla.paradigms.verdicts import Cell, judged, paragraph, standing
from vla.report import numbers
from vla.report.template import render


def comparison_markdown(found: Sequence[Measurement]) -> str:
    """What each contestant was measured by, and the table of what is said with numbers in it."""
    cells = list(judged(standing(found)))
    heads, rows = _measured(found)
    lines = ["## Measured", "", _row(heads), _row(["---"] * len(heads)), *(_row(row) for row in rows)]
    lines += ["", "## What is said, and what was measured", "", _row(["", *PARADIGMS.values()]), "|---|---|---|---|"]
    for dimension in COMPARISON:
        lines.append(_row([f"**{dimension}**", *(_told(cell) for cell in _own(cells, dimension))]))
    lines += ["", paragraph(cells), "", "### Rules", ""]
    lines += [f"- {c.dimension}, {c.paradigm}, “{c.said}”: {c.test}." for c in cells]
    return "\n".join([*lines, "", *_origin(found), ""])


def comparison_page(found: Sequence[Measurement], *, title: str) -> str:
    """The same as a page."""
    field = standing(found)
    cells = list(judged(field))
    heads, rows = _measured(found)
    view: dict[str, Any] = {
        "title": title,
        "paragraph": paragraph(cells),
        "heads": heads,
        "rows": rows,
        "successes": [(one.name, one.paradigm, one.success) for one in found],
        "paradigms": [(name, words, field[name].name if name in field else "") for name, words in PARADIGMS.items()],
        "dimensions": [(dimension, _own(cells, dimension)) for dimension in COMPARISON],
        "origin": _origin(found),
    }
    return render("paradigms.html.j2", view, n=numbers)


def _own(cells: Sequence[Cell], dimension: str) -> list[Cell]:
    return [cell for cell in cells if cell.dimension == dimension]


def _told(cell: Cell) -> str:
    measured = f" {cell.measured}" if cell.measured else ""
    return f"“{cell.said}”:{measured} **{cell.verdict}**"


def _measured(found: Sequence[Measurement]) -> tuple[list[str], list[list[str]]]:
    heads = ["", "paradigm", "success", "two colours", "right − blank", "other goal", "unsaid", "training", "given"]
    heads += ["parameters", "trained", "decision", "retrieval", *KINDS, "by"]
    return heads, [_of(one) for one in found]


def _of(one: Measurement) -> list[str]:
    def rate(value: Any) -> str:
        return "–" if value is None else f"{numbers.percent(value.rate)} ({numbers.interval(value)})"

    gap = "–" if one.blank is None else numbers.points(one.blank.difference)
    gap += "" if one.blank is None else f" ({numbers.points_interval(one.blank)})"
    found = one.retrieval
    probed = [
        rate(one.probes.get(kind)) + (f", blind {rate(one.blind[kind])}" if kind in one.blind else "") for kind in KINDS
    ]
    return [
        *(one.name, one.paradigm, rate(one.success), rate(one.binding), gap, rate(one.wrong), rate(one.unsaid)),
        numbers.duration(one.training_s),
        numbers.duration(one.given_s) if one.given_s else "–",
        *(numbers.count(one.parameters), numbers.count(one.trainable)),
        f"{one.decision_ms:.1f} ms (p99 {one.decision_p99_ms:.1f})",
        "–" if found is None else f"{found.query_ms:.2f} ms of {numbers.count(found.items)}",
        *probed,
        one.probed_by or "–",
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _origin(found: Sequence[Measurement]) -> list[str]:
    """How it was measured, of each contestant."""
    lines = []
    for one in found:
        origin, asked = one.provenance, one.asking
        cpu = origin.get("hardware", {}).get("cpu", "unknown")
        scenes = f"{asked.episodes} scenes from seed {asked.seed} of {asked.env}, {asked.probes} probes of each kind"
        lines.append(f"{one.name}: {numbers.count(one.samples)} samples; {scenes}; commit {origin.get('git')}; {cpu}")
    return lines
