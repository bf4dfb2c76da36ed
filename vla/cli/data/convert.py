"""``vla data convert``: import from, or export to, another format."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from vla.cli.command import Cluster, console, parse, progress, write_result
from vla.core.config import parse_settings
from vla.core.errors import ConfigError
from vla.core.machine.engines import EngineChoice
from vla.core.machine.processes import cores
from vla.datasets.formats.source import Format, Hints, Source

_EXAMPLES = """  vla data convert demo.hdf5 data/lift --instruction "lift the cube"
  vla data convert ~/pusht_cchi_v7_replay.zarr data/pusht --control-hz 10 --codec jpeg
  vla data convert bridge/1.0.0 s3://lab/bridge --workers 8
  vla data convert bags/ data/bags --set "state=[/arm/joint_states, /gripper/state]" "cameras={front: /front/image}"
  vla data convert bags/ --set "state=[/arm/joint_states, /gripper/state]" --describe-template bags.yaml
                                                       (what was found: fill in names, units and limits)
  vla data convert bags/ data/bags --describe bags.yaml
  vla data convert data/place out/place --to lerobot"""

_SHOWN = 40


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Import episodes of another format into a dataset, or with --to export a dataset.

    The format of the source is recognised. The same command continues an import that was stopped. What the recordings
    do not say (names, units, limits, which action is the gripper) goes into a file: --describe.
    """

    source: Annotated[str, tyro.conf.Positional]
    """What to read."""
    target: Annotated[str | None, tyro.conf.Positional] = None
    """Dataset to import into (path or URL), or what to export to (path)."""
    to: str | None = None
    """Export in this format: a name of the list above, or module:Name for your own."""
    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Format of the source, where it is not recognised."""
    hints: Annotated[Hints, tyro.conf.arg(name="")] = field(default_factory=Hints)
    describe: Path | None = None
    """YAML file with names, units, limits, gripper and cameras; kept in the dataset's provenance."""
    describe_template: Path | None = None
    """Write such a file, filled with what is found in the source, and import nothing."""
    set: list[str] = field(default_factory=list)
    """Options of the format, as key=value: the topics or features that are state, action and cameras."""
    codec: Literal["zstd", "jpeg", "raw"] = "zstd"
    """How frames of colour cameras are packed; zstd is lossless, jpeg takes a quarter of the space."""
    workers: int = cores()
    """Of the engine processes; Ray uses its cluster."""
    engine: EngineChoice = "auto"
    """auto does little work in this process, more in processes, and on Ray where a cluster was joined."""
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = field(default_factory=Cluster)
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
    from vla.datasets.formats.table import all_formats

    arguments = parse(Arguments, argv, verb="data convert", examples=f"{_EXAMPLES}\n\n{_listed(all_formats())}")
    run = _export if arguments.to else _template if arguments.describe_template else _import
    write_result(arguments.json, run(arguments))
    return 0


def _listed(formats: Mapping[str, Format]) -> str:
    return "formats:\n" + "\n".join(
        f"  {name} ({'read and written' if entry.export else 'read'}): {entry.looks}" for name, entry in formats.items()
    )


def _import(arguments: Arguments) -> dict[str, Any]:
    from vla.core.provenance import provenance
    from vla.datasets.formats.importing import ImportSettings, import_source
    from vla.datasets.formats.template import unnamed

    target = _target(arguments)
    source, description = _open(arguments)
    _print_notes("note", source.notes)
    warnings = tuple(filter(None, [unnamed(source.contract)]))
    _print_notes("warning", warnings)
    settings = ImportSettings(
        codecs=_codecs(source, arguments.codec),
        workers=arguments.workers,
        engine=arguments.engine,
        segment_episodes=arguments.segment_episodes,
        allow_duplicates=arguments.allow_duplicates,
        skip_invalid=arguments.skip_invalid,
    )
    with progress("steps") as bar:
        task = bar.add_task("import", total=len(source), steps="")
        taken: list[int] = []

        def on_episode(steps: int) -> None:
            taken.append(steps)
            bar.update(task, advance=1, steps=f"{sum(taken):,} steps")

        imported = import_source(
            source,
            target,
            where=str(Path(arguments.source).resolve()),
            settings=settings,
            provenance=provenance(**description),
            on_episode=on_episode,
        )
        bar.update(task, completed=len(source))
    _print_notes("note", imported.notes)
    _print_notes("changed", imported.changed)
    _print_notes("skipped", imported.invalid)
    console().print(
        f"{target}: "
        + (f"version {imported.manifest}, " if imported.manifest else "nothing new, ")
        + f"{imported.episodes:,} episodes, {imported.steps:,} steps; {imported.duplicates:,} were there already, "
        + f"{len(imported.changed):,} changed, {len(imported.invalid):,} skipped"
    )
    return {**asdict(imported), "notes": list(source.notes), "warnings": list(warnings)}


def _template(arguments: Arguments) -> dict[str, Any]:
    from vla.core.files import write_atomic
    from vla.datasets.formats.table import recognised
    from vla.datasets.formats.template import WORDLESS, write_template

    path = arguments.describe_template
    assert path is not None
    if arguments.describe is not None or arguments.target is not None:
        raise ConfigError(
            "convert: --describe-template writes a file and imports nothing: leave out the dataset and --describe"
        )
    if path.exists():
        raise ConfigError(f"convert: {path} exists; name another file, or remove it first")
    hints = replace(arguments.hints, instruction=arguments.hints.instruction or WORDLESS)
    source, _ = _open(replace(arguments, hints=hints))
    chosen = arguments.from_ or recognised(Path(arguments.source))
    text = write_template(source, format_name=chosen, options=parse_settings(arguments.set), hints=arguments.hints)
    write_atomic(path, text.encode())
    console().print(
        f"{path}: what was found in {len(source):,} episodes; fill it in, then vla data convert {arguments.source} "
        f"DATASET --describe {path}"
    )
    return {"template": str(path), "episodes": len(source)}


def _open(arguments: Arguments) -> tuple[Source, dict[str, Any]]:
    """The source as it is described, and what is kept of the description."""
    from vla.datasets.formats.described import describe
    from vla.datasets.formats.description import Description, as_provenance, load_description
    from vla.datasets.formats.table import open_source

    path = arguments.describe
    description = Description() if path is None else load_description(path)
    source = open_source(
        Path(arguments.source),
        description.hints(arguments.hints),
        arguments.from_ or description.format,
        {**description.options, **parse_settings(arguments.set)},
    )
    if path is None:
        return source, {}
    return describe(source, description, path), {"description": as_provenance(description, path)}


def _target(arguments: Arguments) -> str:
    if arguments.target is None:
        what = "a path to export to" if arguments.to else "the dataset to import into"
        raise ConfigError(f"convert: expected {what} after {arguments.source}, got nothing; name it")
    return arguments.target


def _codecs(source: Source, codec: str) -> dict[str, str]:
    """The codec of each camera: depth stays lossless."""
    return {c.name: codec if c.kind == "rgb" or codec == "raw" else "zstd" for c in source.contract.cameras}


def _export(arguments: Arguments) -> dict[str, Any]:
    from vla.datasets.dataset import Dataset
    from vla.datasets.formats.table import all_formats, format_of, needed_libraries

    assert arguments.to is not None
    chosen = format_of(arguments.to)
    if chosen.export is None:
        written = [name for name, entry in all_formats().items() if entry.export is not None]
        raise ConfigError(f"convert: format {arguments.to} is read, not written; written are {', '.join(written)}")
    target = Path(_target(arguments))
    dataset = Dataset.open(arguments.source, arguments.manifest)
    more = chosen.lossless if arguments.lossless else {}
    with progress() as bar, needed_libraries(arguments.to, chosen):
        task = bar.add_task(f"export to {arguments.to}", total=len(dataset.episodes))
        exported = chosen.export(dataset, target, lambda steps: bar.advance(task), **more)
    _print_notes("not in the export", exported.lost)
    console().print(f"{target}: {exported.episodes:,} episodes, {exported.steps:,} steps ({arguments.to})")
    return asdict(exported)


def _print_notes(title: str, lines: tuple[str, ...]) -> None:
    for line in lines[:_SHOWN]:
        console().print(f"[yellow]{title}[/yellow] ", end="")
        console().print(line, markup=False)
    if len(lines) > _SHOWN:
        console().print(f"… and {len(lines) - _SHOWN:,} more; --json writes all of them")
