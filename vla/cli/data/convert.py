"""``vla data convert``: import from, or export to, another format."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from vla.cli.command import console, parse, parse_settings, progress, write_result
from vla.core.errors import ConfigError
from vla.core.processes import cores
from vla.datasets.formats.source import Format, Hints, Source

_EXAMPLES = """  vla data convert demo.hdf5 data/lift --instruction "lift the cube"
  vla data convert ~/pusht_cchi_v7_replay.zarr data/pusht --control-hz 10 --codec jpeg
  vla data convert bridge/1.0.0 s3://lab/bridge --workers 8
  vla data convert runs/ data/runs --from mcap --set state=[/joint_states] "cameras={front: /front/image}"
  vla data convert data/place out/place --to lerobot"""

_SHOWN = 40


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Import episodes of another format into a dataset, or with --to export a dataset.

    The format of the source is recognised. The same command continues an import that was stopped.
    """

    source: Annotated[str, tyro.conf.Positional]
    """What to read."""
    target: Annotated[str, tyro.conf.Positional]
    """Dataset to import into (path or URL), or what to export to (path)."""
    to: str | None = None
    """Export in this format: a name of the list above, or module:Name for your own."""
    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Format of the source, where it is not recognised."""
    hints: Annotated[Hints, tyro.conf.arg(name="")] = field(default_factory=Hints)
    set: list[str] = field(default_factory=list)
    """Options of the format of --from, as key=value: the topics or features that are state, action and cameras."""
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
    from vla.datasets.formats.table import all_formats

    arguments = parse(Arguments, argv, verb="data convert", examples=f"{_EXAMPLES}\n\n{_listed(all_formats())}")
    write_result(arguments.json, _export(arguments) if arguments.to else _import(arguments))
    return 0


def _listed(formats: Mapping[str, Format]) -> str:
    return "formats:\n" + "\n".join(
        f"  {name} ({'read and written' if entry.export else 'read'}): {entry.looks}" for name, entry in formats.items()
    )


def _import(arguments: Arguments) -> dict[str, Any]:
    from vla.core.provenance import provenance
    from vla.datasets.formats.importing import ImportSettings, import_source
    from vla.datasets.formats.table import open_source

    source = open_source(Path(arguments.source), arguments.hints, arguments.from_, _options(arguments))
    _print_notes("note", source.notes)
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

        name = str(Path(arguments.source).resolve())
        imported = import_source(
            source, arguments.target, where=name, settings=settings, provenance=provenance(), on_episode=on_episode
        )
        bar.update(task, completed=len(source))
    _print_notes("note", imported.notes)
    _print_notes("changed", imported.changed)
    _print_notes("skipped", imported.invalid)
    console().print(
        f"{arguments.target}: "
        + (f"version {imported.manifest}, " if imported.manifest else "nothing new, ")
        + f"{imported.episodes:,} episodes, {imported.steps:,} steps; {imported.duplicates:,} were there already, "
        + f"{len(imported.changed):,} changed, {len(imported.invalid):,} skipped"
    )
    return {**asdict(imported), "notes": list(source.notes)}


def _options(arguments: Arguments) -> Any:
    """What the user sets of the format's own options; None for nothing."""
    from vla.core.config import from_dict
    from vla.datasets.formats.table import format_of

    if not arguments.set:
        return None
    if arguments.from_ is None:
        raise ConfigError("convert: --set is of one format: name it with --from")
    options = format_of(arguments.from_).options
    if options is None:
        raise ConfigError(f"convert: format {arguments.from_} has no options; leave --set out")
    return from_dict(options, parse_settings(arguments.set), where="--set")


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
    dataset = Dataset.open(arguments.source, arguments.manifest)
    more = chosen.lossless if arguments.lossless else {}
    with progress() as bar, needed_libraries(arguments.to, chosen):
        task = bar.add_task(f"export to {arguments.to}", total=len(dataset.episodes))
        exported = chosen.export(dataset, Path(arguments.target), lambda steps: bar.advance(task), **more)
    _print_notes("not in the export", exported.lost)
    console().print(f"{arguments.target}: {exported.episodes:,} episodes, {exported.steps:,} steps ({arguments.to})")
    return asdict(exported)


def _print_notes(title: str, lines: tuple[str, ...]) -> None:
    for line in lines[:_SHOWN]:
        console().print(f"[yellow]{title}[/yellow] ", end="")
        console().print(line, markup=False)
    if len(lines) > _SHOWN:
        console().print(f"… and {len(lines) - _SHOWN:,} more; --json writes all of them")
