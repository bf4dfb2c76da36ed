"""``vla data merge``: several datasets of one robot become one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, progress, write_result
from vla.core.machine.processes import cores

_EXAMPLES = "  vla data merge data/monday data/tuesday --out data/week"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Copy the latest versions of datasets of one robot into another dataset; duplicates are left out."""

    sources: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Paths or URLs."""
    out: str
    """Path or URL of the dataset that they are copied to; made if it does not exist."""
    allow_duplicates: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Copy episodes that are there already as well."""
    workers: int = cores()
    json: Path | None = None
    """Write what was done to this file."""


def main(argv: list[str]) -> int:
    """Merge, with a progress bar."""
    arguments = parse(Arguments, argv, verb="data merge", examples=_EXAMPLES)
    from vla.datasets.care.pack import merge

    with progress() as bar:
        task = bar.add_task("merge", total=None)
        number, left_out = merge(
            arguments.sources,
            arguments.out,
            allow_duplicates=arguments.allow_duplicates,
            workers=arguments.workers,
            on_episode=lambda steps: bar.advance(task),
        )
    console().print(f"{arguments.out}: version {number}; {left_out} duplicates were left out")
    write_result(arguments.json, {"manifest": number, "duplicates": left_out})
    return 0
