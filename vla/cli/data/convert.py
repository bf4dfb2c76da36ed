"""``vla data convert``: import from, or export to, another format."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from vla.cli.command import console, parse, progress, write_result
from vla.core.errors import ConfigError
from vla.core.processes import cores

if TYPE_CHECKING:
    from vla.datasets.formats.source import Source

_EXAMPLES = """  vla data convert demo.hdf5 data/lift --instruction "lift the cube"
  vla data convert ~/pusht_cchi_v7_replay.zarr data/pusht --hz 10 --codec jpeg
  vla data convert bridge/1.0.0 s3://lab/bridge --workers 8
  vla data convert data/place out/place --to lerobot"""


@dataclass(frozen=True, kw_only=True)
class Say:
    """What the source does not say."""

    robot: str | None = None
    hz: float | None = None
    """Control rate."""
    instruction: str | None = None
    task: str | None = None
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Import episodes of another format into a dataset, or with --to export a dataset.

    The format of the source is recognised: LeRobot 2.1 and 3.0, robomimic and robosuite HDF5, diffusion_policy Zarr,
    RLDS and MCAP. The same command continues an import that was stopped.
    """

    source: Annotated[str, tyro.conf.Positional]
    """What to read."""
    target: Annotated[str, tyro.conf.Positional]
    """Dataset to import into (path or URL), or what to export to (path)."""
    to: Literal["lerobot", "robomimic", "diffusion-policy"] | None = None
    """Export in this format."""
    format: str | None = None
    """Format of the source, where it is not recognised."""
    say: Annotated[Say, tyro.conf.arg(name="")] = field(default_factory=Say)
    codec: Literal["zstd", "jpeg", "raw"] = "zstd"
    """How frames of colour cameras are packed; zstd is lossless, jpeg takes a quarter of the space."""
    workers: int = cores()
    """Of the engine processes; Ray uses its cluster."""
    engine: Literal["ray", "processes", "inline"] = "ray"
    segment_episodes: int = 100
    """Episodes of one segment: the unit of parallel work."""
    skip_invalid: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave damaged episodes out, and list them."""
    allow_duplicates: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also import episodes that the dataset has already."""
    manifest: int | None = None
    """Version to export; the latest by default."""
    lossless: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Export frames to LeRobot as PNG instead of AV1 video."""
    json: Path | None = None
    """Write the outcome to this file."""


def main(argv: list[str]) -> int:
    """Import or export, with a progress bar."""
    arguments = parse(Arguments, argv, verb="data convert", examples=_EXAMPLES)
    write_result(arguments.json, _export(arguments) if arguments.to else _import(arguments))
    return 0


def _import(arguments: Arguments) -> dict[str, Any]:
    from vla.core.provenance import provenance
    from vla.datasets.formats.importing import ImportSettings, import_source
    from vla.datasets.formats.source import Hints
    from vla.datasets.formats.table import open_source

    say = arguments.say
    hints = Hints(robot=say.robot, control_hz=say.hz, instruction=say.instruction, task=say.task, split=say.split)
    source = open_source(Path(arguments.source), hints, arguments.format)
    _print_notes("note", source.notes)
    settings = ImportSettings(
        codecs=_codecs(source, arguments.codec),
        workers=arguments.workers,
        engine=arguments.engine,
        segment_episodes=arguments.segment_episodes,
        allow_duplicates=arguments.allow_duplicates,
        skip_invalid=arguments.skip_invalid,
    )
    with progress("frames") as bar:
        task = bar.add_task("import", total=len(source), frames="")
        frames: list[int] = []

        def on_episode(steps: int) -> None:
            frames.append(steps)
            bar.update(task, advance=1, frames=f"{sum(frames):,} steps")

        name = str(Path(arguments.source).resolve())
        imported = import_source(
            source, arguments.target, where=name, settings=settings, provenance=provenance(), on_episode=on_episode
        )
        bar.update(task, completed=len(source))
    _print_notes("skipped", imported.invalid)
    console().print(
        f"{arguments.target}: "
        + (f"version {imported.manifest}, " if imported.manifest else "nothing new, ")
        + f"{imported.episodes:,} episodes, {imported.frames:,} steps; {imported.duplicates:,} were there already"
    )
    return {**asdict(imported), "notes": list(source.notes)}


def _codecs(source: "Source", codec: str) -> dict[str, str]:
    """The codec of each camera: depth stays lossless."""
    return {c.name: codec if c.kind == "rgb" or codec == "raw" else "zstd" for c in source.contract.cameras}


def _export(arguments: Arguments) -> dict[str, Any]:
    from vla.datasets.dataset import Dataset
    from vla.datasets.formats.table import FORMATS

    export = FORMATS[arguments.to or ""].export
    if export is None:
        raise ConfigError(f"convert: {arguments.to} cannot be written")
    dataset = Dataset.open(arguments.source, arguments.manifest)
    with progress() as bar:
        task = bar.add_task(f"export to {arguments.to}", total=len(dataset.episodes))
        exported = export(dataset, Path(arguments.target), lambda steps: bar.advance(task), arguments.lossless)
    _print_notes("not in the export", exported.lost)
    console().print(f"{arguments.target}: {exported.episodes:,} episodes, {exported.frames:,} steps ({arguments.to})")
    return asdict(exported)


def _print_notes(title: str, lines: tuple[str, ...]) -> None:
    for line in lines:
        console().print(f"[yellow]{title}[/yellow] ", end="")
        console().print(line, markup=False)
