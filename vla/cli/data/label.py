"""``vla data label``: signals that follow from a dataset's own states, commands and pictures."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import Cluster, console, parse, progress, write_result
from vla.collection.labels.settings import LabelConfig
from vla.core.machine.engines import EngineChoice
from vla.core.machine.processes import cores

_EXAMPLES = """  vla data label data/place data/place-labelled
  vla data label data/mine data/mine-labelled --description robot.xml --tool tcp
  vla train labels-from-logs --data.path data/place-labelled"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write a dataset with three more signals: gripper_event, gripper_pixel and tool_trace.

    Where and when the gripper closes and opens next, where each fixed camera will see that, and the tool's coming path
    in the picture. No simulator is asked: the tool's place comes from the state or the robot's description, and the
    projection into each picture is fitted to image motion that follows the tool. Frames are linked, not copied.
    """

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL of the dataset to read."""
    target: Annotated[str, tyro.conf.Positional]
    """Path or URL of the dataset to write."""
    how: Annotated[LabelConfig, tyro.conf.arg(name="")] = field(default_factory=LabelConfig)
    manifest: int | None = None
    """Version to read; the latest by default."""
    workers: int = cores()
    engine: EngineChoice = "auto"
    """auto shares work out where that saves time."""
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = field(default_factory=Cluster)
    json: Path | None = None
    """Write the outcome to this file."""


def main(argv: list[str]) -> int:
    """Label, with a progress bar."""
    arguments = parse(Arguments, argv, verb="data label", examples=_EXAMPLES)
    from vla.collection.labels.label import label
    from vla.datasets.dataset import Dataset

    source = Dataset.open(arguments.dataset, arguments.manifest)
    with progress() as bar:
        task = bar.add_task("label", total=len(source.episodes))
        version, found = label(
            source,
            arguments.target,
            arguments.how,
            workers=arguments.workers,
            engine=arguments.engine,
            on_episode=lambda steps: bar.advance(task),
            note=lambda text: bar.console.print(text, style="dim", markup=False, soft_wrap=True),
        )
    console().print(
        f"{arguments.target}: version {version}, {len(source.episodes):,} episodes, {', '.join(found.signals)}"
    )
    cameras = {name: {"residual_pixels": c.pixels, "explained": c.explained} for name, c in found.cameras.items()}
    outcome = {"manifest": version, "tool": found.tool, "cameras": cameras, "left_out": dict(found.left_out)}
    write_result(arguments.json, outcome)
    return 0
