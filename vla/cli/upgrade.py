"""``vla upgrade``: convert a checkpoint of version 1, or seal one of version 2.0."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, write_result

_EXAMPLES = """  vla upgrade runs/place/checkpoint
  vla data upgrade data/place          (a dataset)"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Bring a checkpoint that an earlier version of vla wrote to this one, in place.

    One of version 1 is converted, and kept beside the new one. One of version 2.0 gets its seal: from then on damage
    is noticed.
    """

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
    told = {
        "converted": f"upgraded to version 2; the old one is {path}-version1",
        "sealed": "read as a whole, and sealed as it is",
        "current": "of this version already, nothing to do",
    }
    console().print(f"{path}: {told[done]}")
    write_result(arguments.json, {"upgraded": done != "current", "outcome": done})
    return 0
