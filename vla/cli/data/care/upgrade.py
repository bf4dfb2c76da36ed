"""``vla data upgrade``: a dataset of an older format, converted in place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, progress, write_result

_EXAMPLES = "  vla data upgrade data/place"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Convert the latest version of a dataset of format 1 to format 2. Images are linked, not copied.

    The old dataset stays whole in DATASET/version1. An upgrade that was stopped goes on when it is called again.
    """

    dataset: Annotated[str, tyro.conf.Positional]
    """Path of a local dataset."""
    json: Path | None = None
    """Write what was done to this file."""


def main(argv: list[str]) -> int:
    """Upgrade, with a progress bar."""
    arguments = parse(Arguments, argv, verb="data upgrade", examples=_EXAMPLES)
    from vla.datasets.care.upgrade import upgrade

    with progress() as bar:
        task = bar.add_task("upgrade", total=None)
        done = upgrade(arguments.dataset, lambda steps: bar.advance(task))
    if done:
        told = "upgraded to format 2; what it was is in version1, with older versions: remove it when you like"
    else:
        told = "of format 2 already, nothing to do"
    console().print(f"{arguments.dataset}: {told}")
    write_result(arguments.json, {"upgraded": done})
    return 0
