"""``vla data mix``: what a mixture of datasets is made of, and how fast it is read."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, write_result

_EXAMPLES = """  vla data mix mixture
  vla data mix my-mixture.yaml --batches 50 --json mix.json"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Open a mixture of datasets of different robots and show what training would draw from it."""

    recipe: Annotated[str, tyro.conf.Positional]
    """A file, or ``mixture``, the example that comes with vla."""
    batches: int = 10
    """Batches to read."""
    batch: int = 32
    horizon: int = 16
    """Steps of a chunk."""
    history: int = 1
    """Observations of an item."""
    seed: int = 0
    json: Path | None = None
    """Write the outcome to this file."""


def main(argv: list[str]) -> int:
    """Open, print a table, read some batches."""
    arguments = parse(Arguments, argv, verb="data mix", examples=_EXAMPLES)
    from rich.table import Table

    from vla.core.config import load_recipe
    from vla.datasets.sampling.mixture import Mixture
    from vla.datasets.sampling.order import ResumableSampler
    from vla.datasets.sampling.settings import MixtureConfig

    mixture = Mixture(
        load_recipe(MixtureConfig, arguments.recipe), horizon=arguments.horizon, history=arguments.history
    )
    rows = mixture.summary()
    table = Table("dataset", "robot", "embodiment", "weight", "share", "steps", "epochs/1M", "cameras", box=None)
    for row in rows:
        table.add_row(
            row.dataset,
            row.robot,
            str(row.embodiment),
            f"{row.weight:g}",
            f"{row.share:.1%}",
            f"{row.steps:,}",
            f"{row.epochs_per_million:.1f}",
            " ".join(row.cameras),
        )
    console().print(table)
    for row in rows:
        for line in row.problems:
            console().print("[yellow]odd[/yellow] ", end="")
            console().print(f"{row.dataset}: {line}", markup=False)
    sampler = ResumableSampler(order=mixture.order(arguments.seed), batch=arguments.batch)
    began = time.perf_counter()
    batch = {}
    for step in range(arguments.batches):
        batch = mixture.batch(sampler.items(step))
    rate = arguments.batches * arguments.batch / max(time.perf_counter() - began, 1e-9)
    shapes = {name: [array.dtype.name, list(array.shape)] for name, array in batch.items()}
    for name, (dtype, shape) in shapes.items():
        console().print(f"  {name:<18} {dtype:<8} {shape}", highlight=False)
    console().print(f"{rate:,.0f} samples/s in this process")
    write_result(arguments.json, {"rows": [asdict(row) for row in rows], "batch": shapes, "samples_per_s": rate})
    return 0
