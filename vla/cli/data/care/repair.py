"""``vla data repair``: put a dataset in order."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, progress, write_result

_EXAMPLES = "  vla data repair data/place"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Finish what crashes interrupted, recover recordings, and move what is damaged to quarantine/.

    Sealed data is never changed; live writers are not disturbed. Exits with 1 if something could not be saved.
    """

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL."""
    hosts: tuple[str, ...] = ()
    """Machines that are gone, and whose unfinished recordings are to be recovered here."""
    json: Path | None = None
    """Write what was done to this file."""


def main(argv: list[str]) -> int:
    """Repair and say what was done."""
    arguments = parse(Arguments, argv, verb="data repair", examples=_EXAMPLES)
    from vla.datasets.care.repair import repair
    from vla.datasets.storage.storage import open_storage

    storage = open_storage(arguments.dataset)
    with progress() as bar:
        task = bar.add_task("check", total=len([n for n in storage.children("segments") if not n.startswith(".")]))
        report = repair(storage, lambda segment: bar.advance(task), arguments.hosts)
    for colour, title, lines in (
        ("green", "done", report.done),
        ("yellow", "left", report.left),
        ("red", "lost", report.lost),
    ):
        for line in lines:
            console().print(f"[{colour}]{title}[/{colour}] ", end="")
            console().print(line, markup=False)
    if report.manifest is not None:
        console().print(f"published version {report.manifest}")
    if not (report.done or report.left or report.lost):
        console().print(f"{arguments.dataset}: nothing to repair")
    write_result(arguments.json, asdict(report))
    return 1 if report.lost else 0
