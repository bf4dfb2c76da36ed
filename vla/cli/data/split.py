"""``vla data split``: assign episodes to splits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, write_result
from vla.core.errors import ConfigError

_EXAMPLES = "  vla data split data/place --shares train=0.9 validation=0.1"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Assign each episode to a split, with exact shares in every task, as a new version."""

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL."""
    shares: tuple[str, ...] = ("train=0.9", "validation=0.1")
    """name=share, with a sum of 1."""
    seed: int = 0
    json: Path | None = None
    """Write the outcome to this file."""


def main(argv: list[str]) -> int:
    """Split and print how many episodes went where."""
    arguments = parse(Arguments, argv, verb="data split", examples=_EXAMPLES)
    from collections import Counter

    from vla.datasets.dataset import Dataset
    from vla.datasets.edit import assign_splits, relabel

    shares = {}
    for pair in arguments.shares:
        name, _, share = pair.partition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            raise ConfigError(f"share {pair!r} must be name=number, as in train=0.9") from None
    dataset = Dataset.open(arguments.dataset)
    assigned = assign_splits(dataset, shares, arguments.seed)
    number = relabel(dataset, assigned, f"split {' '.join(arguments.shares)}, seed {arguments.seed}")
    counts = dict(Counter(change["split"] for change in assigned.values()))
    console().print(f"{arguments.dataset}: version {number}: " + ", ".join(f"{n} {c:,}" for n, c in counts.items()))
    write_result(arguments.json, {"manifest": number, "splits": counts})
    return 0
