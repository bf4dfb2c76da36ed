"""``vla data render``: render episodes anew from their simulator states."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import Cluster, console, parse, progress, write_result
from vla.core.config import parse_settings
from vla.core.errors import ConfigError
from vla.core.machine.engines import EngineChoice
from vla.core.machine.processes import cores

_EXAMPLES = "  vla data render data/place data/place-128 --set image_size=128"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write a dataset anew with frames rendered from its simulator states, for example at another size."""

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL of the dataset to read."""
    target: Annotated[str, tyro.conf.Positional]
    """Path or URL of the dataset to write."""
    set: tuple[str, ...] = ()
    """Settings of the environment as key=value, on top of those that it was recorded with."""
    workers: int = cores()
    engine: EngineChoice = "auto"
    """auto shares work out where that saves time."""
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = field(default_factory=Cluster)
    json: Path | None = None
    """Write the outcome to this file."""


def main(argv: list[str]) -> int:
    """Render, with a progress bar."""
    arguments = parse(Arguments, argv, verb="data render", examples=_EXAMPLES)
    from vla.collection.rerender import Rerender, rerender
    from vla.datasets.dataset import Dataset
    from vla.datasets.scenes import recorded_settings

    source = Dataset.open(arguments.dataset)
    tasks = {source.episodes[number].task for number in range(len(source.episodes))}
    if len(tasks) != 1:
        raise ConfigError(f"render: expected episodes of one task, got {sorted(tasks)}; filter the dataset first")
    settings = {**recorded_settings(source, 0), **parse_settings(arguments.set)}
    config = Rerender(env=tasks.pop(), settings=settings, workers=arguments.workers, engine=arguments.engine)
    with progress() as bar:
        task = bar.add_task("render", total=len(source.episodes))
        version = rerender(source, arguments.target, config, lambda steps: bar.advance(task))
    console().print(f"{arguments.target}: version {version}, {len(source.episodes):,} episodes")
    write_result(arguments.json, {"manifest": version, "episodes": len(source.episodes)})
    return 0
