"""Any set of results of ``vla eval``, arranged for a page and a table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.evaluation.comparison import Row

Value = Mapping[str, Any]

DISTURBANCES: dict[str, tuple[str, str]] = {
    "observation_latency_steps": ("Late observations", "control steps"),
    "action_latency_steps": ("Late actions", "control steps"),
    "dropped_frames": ("Lost frames", "share of frames"),
    "image_noise": ("Noise on pixels", "deviation, grey levels"),
    "state_noise": ("Noise on the state", "deviation, share of range"),
    "action_noise": ("Noise on actions", "deviation, share of range"),
}
"""Title and unit of each axis of robustness."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """One result and the name that it goes by on the page."""

    name: str
    value: Value


def evaluations(results: Sequence[Loaded]) -> Iterator[Loaded]:
    """Every evaluation of one policy, those inside comparisons too; one that is given twice only once."""
    seen: list[Value] = []
    for result in results:
        if result.value["kind"] == "evaluation":
            parts = [result]
        else:
            parts = [Loaded(name=policy_name(result.value[side]), value=result.value[side]) for side in ("a", "b")]
        for part in parts:
            if part.value not in seen:
                seen.append(part.value)
                yield part


def comparisons(results: Sequence[Loaded]) -> list[Loaded]:
    """Those of two policies."""
    return [result for result in results if result.value["kind"] == "comparison"]


def policy_name(value: Value) -> str:
    """Short, but telling: the run's folder, where the checkpoint is called ``checkpoint``."""
    name = str(value["policy"]["name"])
    path = Path(name)
    if name.startswith(("ws://", "wss://")) or not path.name:
        return name
    return path.parent.name if path.name == "checkpoint" and path.parent.name else path.name


def condition_name(row: Row) -> str:
    """What is special about a condition; empty where nothing is."""
    parts = [row["split"]] if row["split"] else []
    if row["language"] != "right":
        parts.append(f"{row['language']} instruction")
    return ", ".join(parts)


def plain_rows(value: Value) -> list[Row]:
    """The undisturbed conditions of an evaluation."""
    return [row for row in value["rows"] if not row["perturbation"]]


def task_rows(value: Value) -> list[Row]:
    """Those in its main language, one for each task and split: what a success rate usually means."""
    rows = plain_rows(value)
    return [row for row in rows if row["language"] == rows[0]["language"]] if rows else []


def count_tasks(rows: Sequence[Row]) -> str:
    """``tabletop/place``, ``3 tasks``, or ``3 tasks and splits`` where both differ."""
    if len(rows) == 1:
        return str(rows[0]["env"])
    alike = len({row["split"] for row in rows}) == 1
    return f"{len(rows)} tasks" if alike else f"{len(rows)} tasks and splits"
