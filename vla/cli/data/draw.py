"""``vla data draw``: synthetic pictures with known findings and their reports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse
from vla.core.errors import ConfigError

_EXAMPLES = """  vla data draw data/radiographs --count 4000
  vla train fusion-flamingo --data.path data/radiographs --out runs/reports
  vla bench findings runs/reports/checkpoint"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Draw pictures with findings of known kind, side and size, each with its report: synthetic, not clinical."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder of the new dataset."""
    count: int = 4000
    """Pictures."""
    seed: int = 0
    """Picture i is drawn from seed + i; vla bench findings asks about those from 500,000 on."""


def main(argv: list[str]) -> int:
    """Draw and publish."""
    arguments = parse(Arguments, argv, verb="data draw", examples=_EXAMPLES)
    if arguments.count < 1:
        raise ConfigError(f"draw: count={arguments.count} must be at least 1")
    from vla.collection.radiographs import SYNTHETIC, write_radiographs

    write_radiographs(arguments.out, arguments.count, seed=arguments.seed)
    console().print(f"{arguments.out}: {arguments.count:,} pictures, {SYNTHETIC}", markup=False)
    return 0
