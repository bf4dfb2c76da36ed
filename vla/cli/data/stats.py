"""``vla data stats``: statistics of states and actions, and what is odd about them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vla.cli.command import console, parse, progress, write_result

if TYPE_CHECKING:
    from vla.core.scaling import Statistics

_EXAMPLES = """  vla data stats data/place
  vla data stats data/place --horizon 16 --absolute --json stats.json
  vla data stats data/place --recompute      (compare with what is stored, and replace it if it is damaged)"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Compute exact statistics of one version, after the action transform, and keep them in the dataset."""

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL."""
    horizon: int = 8
    """Steps of an action chunk: actions are taken at every step of the chunk of every frame."""
    absolute: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take actions as they are; by default angles are taken relative to the state at which the chunk begins."""
    split: str | None = None
    """Only the episodes of this split."""
    recompute: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Compute again even if they are stored, and replace what is damaged."""
    manifest: int | None = None
    """Version; the latest by default."""
    json: Path | None = None
    """Write them to this file."""


def main(argv: list[str]) -> int:
    """Compute or read, and print a table."""
    arguments = parse(Arguments, argv, verb="data stats", examples=_EXAMPLES)
    import numpy as np

    from vla.core.action_transform import ActionTransform
    from vla.datasets.dataset import Dataset
    from vla.datasets.sampling.statistics import load_or_compute, recompute
    from vla.datasets.selection import Selection

    dataset = Dataset.open(arguments.dataset, arguments.manifest)
    contract = dataset.contract
    transform = ActionTransform.absolute(contract) if arguments.absolute else ActionTransform.of(contract)
    episodes = None
    if arguments.split is not None:
        episodes = np.flatnonzero(Selection(splits=(arguments.split,)).mask(dataset.episodes))
    with progress() as bar:
        task = bar.add_task("statistics", total=None)

        def on_progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if arguments.recompute:
            result, wrong = recompute(dataset, transform, arguments.horizon, episodes, progress=on_progress)
        else:
            result = load_or_compute(dataset, transform, arguments.horizon, episodes, progress=on_progress)
            wrong = None
    _print("state", [d.name for d in contract.state], result.state)
    relative = ["" if source is None else " (relative)" for source in transform.relative_to]
    _print("action", [d.name + mark for d, mark in zip(contract.action, relative, strict=True)], result.action)
    for line in result.problems(contract):
        console().print("[yellow]odd[/yellow] ", end="")
        console().print(line, markup=False)
    if wrong is not None:
        console().print("[red]replaced[/red] ", end="")
        console().print(wrong, markup=False)
    console().print(f"{arguments.dataset}: statistics {result.hash} of {result.episodes:,} episodes")
    write_result(arguments.json, {**result.to_json(), "problems": list(result.problems(contract)), "replaced": wrong})
    return 0


def _print(title: str, names: list[str], statistics: "Statistics") -> None:
    from rich.table import Table

    columns = ("mean", "std", "min", "q01", "q99", "max")
    table: Any = Table(title, *columns, "", box=None, padding=(0, 2, 0, 0))
    for i, name in enumerate(names):
        numbers = [f"{getattr(statistics, column)[i]:.4g}" for column in columns]
        kind = statistics.kind[i]
        table.add_row(name, *numbers, "" if kind == "ok" else f"[yellow]{kind}[/yellow]")
    console().print(table)
    console().print(f"{statistics.count:,} values\n", style="dim")
