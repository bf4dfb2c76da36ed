"""The success table as Markdown, for a README or a pull request."""

from collections.abc import Mapping
from typing import Any

from vla.report.numbers import GAP, interval, percent

HEADER = ("Condition", "Success", "95 % interval", "Episodes", "Grasped", "Mean steps", "Inference", "Crashes")


def success_table(facts: Mapping[str, Any]) -> str:
    """One row for each condition of a report's facts; what was not measured is a dash."""
    rows = [HEADER, ("---", *["---:"] * (len(HEADER) - 1)), *(_row(row) for row in facts["rows"])]
    return "".join(f"| {' | '.join(_cell(value) for value in row)} |\n" for row in rows)


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    success, steps, inference_ms = row["success"], row.get("mean_steps"), row.get("inference_ms")
    note = f" ({row['note']})" if row.get("note") else ""
    return (
        row["name"] + note,
        percent(success["rate"]),
        interval(success),
        f"{success['episodes']}",
        "–" if row.get("grasped") is None else f"{row['grasped']}",
        "–" if steps is None else f"{steps:.1f}",
        "–" if inference_ms is None else f"{inference_ms:.1f} ms",
        f"{row.get('crashes', 0)}",
    )


def _cell(text: str) -> str:
    return " ".join(text.replace(GAP, " ").replace("|", "\\|").split())
