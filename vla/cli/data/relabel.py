"""``vla data relabel``: say otherwise what episodes are."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from vla.cli.command import console, parse, write_result
from vla.core.config import parse_settings
from vla.core.errors import ConfigError
from vla.datasets.selection import Selection

_EXAMPLES = """  vla data relabel data/place --set success=false --uids 18eb1a3f9d991638-1848b69f-000000
  vla data relabel data/place --set "instruction=put the mug away" --tasks tabletop/place
  vla data relabel data/place --file labels.json      ({uid: {"instruction": …, "success": …}})"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Change instruction, instruction_alternatives, task, success or split of some episodes, as a new version."""

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL."""
    set: tuple[str, ...] = ()
    """field=value for all chosen episodes."""
    file: Path | None = None
    """JSON with the changes of each episode: {uid: {field: value}}."""
    where: Annotated[Selection, tyro.conf.arg(name="")] = field(default_factory=Selection)
    json: Path | None = None
    """Write the outcome to this file."""


def main(argv: list[str]) -> int:
    """Relabel and say how many episodes changed."""
    arguments = parse(Arguments, argv, verb="data relabel", examples=_EXAMPLES)
    if bool(arguments.set) == (arguments.file is not None):
        raise ConfigError("relabel: give either --set field=value or --file labels.json")
    from vla.datasets.dataset import Dataset
    from vla.datasets.edit import relabel

    dataset = Dataset.open(arguments.dataset)
    changes: dict[str, Any]
    if arguments.file is not None:
        changes = _read(arguments.file)
    else:
        chosen = dataset.episodes.uids[arguments.where.mask(dataset.episodes)]
        changes = {uid.decode(): parse_settings(arguments.set) for uid in chosen}
    if not changes:
        raise ConfigError("relabel: no episode was chosen; nothing was published")
    number = relabel(dataset, changes, f"relabel of {len(changes)} episodes")
    console().print(f"{arguments.dataset}: version {number}, {len(changes):,} episodes relabelled")
    write_result(arguments.json, {"manifest": number, "relabelled": len(changes)})
    return 0


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict) or not all(isinstance(change, dict) for change in value.values()):
        raise ConfigError(f"{path}: expected {{uid: {{field: value}}}}")
    return value
