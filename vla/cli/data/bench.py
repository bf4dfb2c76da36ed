"""``vla data bench``: how fast a dataset is read here."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, progress, write_result
from vla.core.machine.processes import cores

_EXAMPLES = """  vla data bench data/place
  vla data bench s3://lab/place --history 2 --horizon 16 --loaders 2"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Read training batches of a dataset for some seconds, in shuffled order, and print the rates."""

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL."""
    seconds: float = 10.0
    history: int = 1
    horizon: int = 8
    batch: int = 32
    loaders: int = cores()
    """Loader processes; 0 reads in this one."""
    manifest: int | None = None
    """Version; the latest by default."""
    json: Path | None = None
    """Write the rates to this file."""


def main(argv: list[str]) -> int:
    """Read, and print frames and samples a second."""
    arguments = parse(Arguments, argv, verb="data bench", examples=_EXAMPLES)
    from vla.datasets.dataset import Dataset
    from vla.datasets.sampling.loader import Batches, iterate_steps, tensors
    from vla.datasets.sampling.order import Order, ResumableSampler
    from vla.datasets.sampling.windows import Windows

    began = time.perf_counter()
    dataset = Dataset.open(arguments.dataset, arguments.manifest)
    opened = time.perf_counter() - began
    windows = Windows(dataset, arguments.horizon, history=arguments.history)
    sampler = ResumableSampler(order=Order(0, len(windows)), batch=arguments.batch)
    batches = iterate_steps(Batches(windows, sampler, tensors), arguments.loaders)
    next(batches)  # workers have started
    count, began = 0, time.perf_counter()
    with progress("rate") as bar:
        task = bar.add_task("read", total=round(arguments.seconds), rate="")
        while (elapsed := time.perf_counter() - began) < arguments.seconds:
            next(batches)
            count += 1
            bar.update(
                task, completed=int(elapsed), rate=f"{count * arguments.batch / max(elapsed, 1e-9):,.0f} samples/s"
            )
    samples = count * arguments.batch / elapsed
    frames = samples * arguments.history * len(windows.cameras)
    console().print(f"opened in {opened:.2f} s; {samples:,.0f} samples/s, {frames:,.0f} frames/s")
    write_result(arguments.json, {"open_s": opened, "samples_per_s": samples, "frames_per_s": frames})
    return 0
