"""Measurements: how CPU time is taken, and rows of values beside what they are compared with."""

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from vla.core.provenance import provenance

P = ParamSpec("P")
R = TypeVar("R")
Work = Callable[[], int]
"""Does some work and answers with how much: frames, steps, samples."""
Note = Callable[[str], None]
"""Told what is being done."""
_TURNS = 10


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured value; of rates (units that end in ``/s``) more is better, of all else less."""

    name: str
    value: float
    unit: str
    against: float | None = None
    """The same of a peer or a floor, measured in the same run."""
    ratio: float | None = None
    """How many times better than ``against``."""
    bar: float | None = None
    """The goal: the least ratio, or where there is none, the least rate or the most of all else."""

    @property
    def passes(self) -> bool | None:
        """Whether the goal is reached; ``None`` where there is none."""
        if self.bar is None:
            return None
        if self.ratio is not None:
            return self.ratio >= self.bar
        return self.value >= self.bar if is_rate(self.unit) else self.value <= self.bar


def is_rate(unit: str) -> bool:
    """Whether more is better."""
    return unit.endswith("/s")


def compare(name: str, value: float, unit: str, *, against: float, bar: float | None = None) -> Row:
    """A row with a peer or floor."""
    ratio = value / against if is_rate(unit) else against / value
    return Row(name=name, value=value, unit=unit, against=against, ratio=ratio, bar=bar)


def cpu_rates(works: Mapping[str, Work], budget_s: float, repeats: int = 3) -> dict[str, float]:
    """What each work gets done in a second of CPU time, all threads of this process together: the best of ``repeats``.

    Within each repeat the works take many short turns, so that what else runs on the machine, and the clock of the
    processor, meet all alike. Each is done once before, unmeasured.
    """
    best = dict.fromkeys(works, 0.0)
    for work in works.values():
        work()
    for _ in range(repeats):
        done, spent = dict.fromkeys(works, 0), dict.fromkeys(works, 0.0)
        for turn in range(1, _TURNS + 1):
            for name, work in works.items():
                start = time.process_time() - spent[name]
                while spent[name] < budget_s * turn / _TURNS or not done[name]:
                    done[name] += work()
                    spent[name] = time.process_time() - start
        best = {name: max(rate, done[name] / max(spent[name], 1e-9)) for name, rate in best.items()}
    return best


def cpu_seconds(pid: int) -> float:
    """CPU time of a process that runs, all its threads, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime: proc(5)


def in_fresh_process(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function of a module in a new interpreter: nothing is cached there but the module and what it imports."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def to_json(rows: Sequence[Row], **extra: Any) -> dict[str, Any]:
    """The machine-readable result."""
    return {"rows": [asdict(row) for row in rows], "provenance": provenance(**extra)}


def to_table(rows: Sequence[Row]) -> Any:
    """The result as a table of rich."""
    from rich.table import Table

    table = Table("measured", "value", "against", "ratio", "bar", "")
    for column in table.columns[1:5]:
        column.justify = "right"
    for row in rows:
        verdict = {None: "", True: "[green]pass[/green]", False: "[red]falls short[/red]"}[row.passes]
        against = "" if row.against is None else f"{_number(row.against)} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}×"
        table.add_row(row.name, f"{_number(row.value)} {row.unit}", against, ratio, _bar(row), verdict)
    return table


def to_matrix(rows: Sequence[Row]) -> Any:
    """Rows named ``thing: measured`` with one line for each thing: a table of rich for all that were measured alike."""
    from rich.console import Group
    from rich.table import Table

    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        thing, _, what = row.name.partition(": ")
        verdict = "red" if row.passes is False else "none"
        lines.setdefault(thing, {})[f"{what}\n{row.unit}"] = f"[{verdict}]{_number(row.value)}[/{verdict}]"
    tables: dict[tuple[str, ...], Table] = {}
    for thing, cells in lines.items():
        columns = tuple(cells)
        if columns not in tables:
            tables[columns] = Table("", *columns)
            for column in tables[columns].columns[1:]:
                column.justify = "right"
        tables[columns].add_row(thing, *cells.values())
    return Group(*tables.values())


def _bar(row: Row) -> str:
    if row.bar is None:
        return ""
    if row.ratio is not None:
        return f"≥ {row.bar:g}×"
    return f"{'≥' if is_rate(row.unit) else '≤'} {row.bar:,g} {row.unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
