"""``vla data pack``: few large segments instead of many small ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, progress, write_result
from vla.core.machine.processes import cores

_EXAMPLES = "  vla data pack data/place --target-mb 256"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Rewrite small segments, and those with dropped episodes, as larger ones, and publish that as a new version."""

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL."""
    target_mb: float = 64.0
    """Size of a segment, megabytes."""
    workers: int = cores()
    json: Path | None = None
    """Write what was done to this file."""


def main(argv: list[str]) -> int:
    """Pack, with a progress bar."""
    arguments = parse(Arguments, argv, verb="data pack", examples=_EXAMPLES)
    from vla.datasets.care.pack import pack

    with progress() as bar:
        task = bar.add_task("pack", total=None)
        number, before, after = pack(
            arguments.dataset,
            arguments.target_mb,
            workers=arguments.workers,
            on_episode=lambda steps: bar.advance(task),
        )
    console().print(f"{arguments.dataset}: version {number}, {before} segments became {after}; older versions stay")
    write_result(arguments.json, {"manifest": number, "before": before, "after": after})
    return 0
