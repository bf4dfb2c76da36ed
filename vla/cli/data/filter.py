"""``vla data filter``: a new version with only some of the episodes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, write_result
from vla.core.errors import ConfigError
from vla.datasets.selection import Selection

_EXAMPLES = """  vla data filter data/place --success True
  vla data filter data/place --tasks tabletop/place --min-length 10"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Keep only the episodes for which everything that is set holds, as a new version; old versions stay."""

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL."""
    where: Annotated[Selection, tyro.conf.arg(name="")] = field(default_factory=Selection)
    json: Path | None = None
    """Write the outcome to this file."""


def main(argv: list[str]) -> int:
    """Filter and say how many are left."""
    arguments = parse(Arguments, argv, verb="data filter", examples=_EXAMPLES)
    from vla.datasets.dataset import Dataset
    from vla.datasets.edit import keep_only

    selection = arguments.where
    if selection.is_everything:
        raise ConfigError("filter: which episodes? give --success, --tasks, --splits, --instruction or a length")
    before = Dataset.open(arguments.dataset)
    number = keep_only(before, selection, f"filter: {selection}")
    left = len(Dataset.open(arguments.dataset, number).episodes)
    console().print(f"{arguments.dataset}: version {number} keeps {left:,} of {len(before.episodes):,} episodes")
    write_result(arguments.json, {"manifest": number, "before": len(before.episodes), "episodes": left})
    return 0
