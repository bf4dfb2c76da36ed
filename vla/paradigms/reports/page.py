"""An incident as one HTML file and as Markdown."""

import base64
from collections.abc import Sequence

import numpy as np

from vla.paradigms.reports.describing import Score, Statement
from vla.paradigms.reports.incident import Incident, Trace
from vla.paradigms.reports.telling import sentences
from vla.report.charts import COLOURS, chart_axes, chart_svg
from vla.report.evaluation.video import film_strip
from vla.report.template import render


def incident_page(
    incident: Incident,
    trace: Trace | None,
    *,
    statements: Sequence[Statement] = (),
    score: Score | None = None,
    describer: str = "",
) -> str:
    """The page; without a replay it has no pictures."""
    headline, *facts = sentences(incident)
    strip = film_strip(np.stack(trace.frames), len(trace.frames), views=1) if trace else b""
    view = {
        "title": f"{incident.env}, scene {incident.seed}",
        "headline": headline,
        "sentences": facts,
        "strip": base64.b64encode(strip).decode(),
        "chart": _progress(trace, incident) if trace else "",
        "statements": statements,
        "score": score,
        "describer": describer,
    }
    return render("incident.html.j2", view)


def incident_markdown(incident: Incident, statements: Sequence[Statement] = ()) -> str:
    """The same without pictures."""
    headline, *facts = sentences(incident)
    lines = [f"# {incident.env}, scene {incident.seed}", "", f"**{headline}**", "", *(f"- {fact}" for fact in facts)]
    if statements:
        lines += ["", "| step | question | answer | what is so |", "|---|---|---|---|"]
        lines += [
            f"| {s.question.step} | {s.question.text} | {s.said} | {s.question.answer or '–'} |" for s in statements
        ]
    return "\n".join(lines) + "\n"


def _progress(trace: Trace, incident: Incident) -> str:
    with chart_axes("progress") as (figure, axes):
        axes.plot([100 * value for value in trace.progress], color=COLOURS["accent"], lw=1.5)
        for touch in incident.touches:
            colour = COLOURS["accent" if touch.named else "second"]
            axes.axvline(touch.first, color=colour, lw=0.8, ls=(0, (2, 2)))
            axes.text(touch.first, 100, f" {touch.thing}", color=colour, va="top", fontsize=7)
        axes.set_ylim(0, 102)
        axes.set_xlim(0, max(1, len(trace.progress) - 1))
        axes.set_xlabel("step")
        axes.set_ylabel("progress, %")
        return chart_svg(figure, "Progress by step, and when things were first touched")
