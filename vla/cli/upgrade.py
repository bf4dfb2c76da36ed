"""``vla upgrade``: convert a checkpoint of version 1."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, write_result

_EXAMPLES = """  vla upgrade runs/place/checkpoint
  vla data upgrade data/place          (a dataset)"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Convert a checkpoint that an earlier version of vla wrote, in place; the old one is kept beside it."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Folder of the checkpoint."""
    json: Path | None = None
    """Write the outcome to this file."""


def main(argv: list[str]) -> int:
    """Upgrade, and say so."""
    arguments = parse(Arguments, argv, verb="upgrade", examples=_EXAMPLES)
    from vla.models.upgrade import upgrade_checkpoint

    path = arguments.checkpoint
    done = upgrade_checkpoint(path)
    told = f"upgraded to version 2; the old one is {path}-version1" if done else "of version 2 already, nothing to do"
    console().print(f"{path}: {told}")
    write_result(arguments.json, {"upgraded": done})
    return 0
