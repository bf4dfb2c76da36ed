"""``vla data relabel``: say otherwise what episodes are."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vla.cli.command import console, parse, write_result
from vla.core.config import parse_settings
from vla.core.errors import ConfigError
from vla.datasets.selection import Selection

if TYPE_CHECKING:
    from vla.datasets.dataset import Dataset

_EXAMPLES = """  vla data relabel data/place --set success=false --uids 18eb1a3f9d991638-1848b69f-000000
  vla data relabel data/place --set "instruction=put the mug away" --tasks tabletop/place
  vla data relabel data/place --file labels.json      ({uid: {"instruction": …, "success": …}})
  vla data relabel data/logs --success-by runs/two-tower/checkpoint --calibrate data/rollouts --json sure.json"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Change instruction, instruction_alternatives, task, success or split of some episodes, as a new version."""

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL."""
    set: tuple[str, ...] = ()
    """field=value for all chosen episodes."""
    file: Path | None = None
    """JSON with the changes of each episode: {uid: {field: value}}."""
    success_by: Path | None = None
    """A two-tower checkpoint that looks at the end of each chosen episode, and says success where it is sure."""
    calibrate: str = ""
    """A dataset whose episodes' success is known, some of both: says how sure the checkpoint may be."""
    prompts: Path | None = None
    """JSON of sentences of success and failure: {"instructions": ["put the {block} on the {plate}"], "success": ["a
    {block} on a {plate}"], "failure": ["a {block} held"]}; by default those of the episode's task."""
    sure: float = 0.9
    """Episodes of which success or failure is less probable keep the label that they have."""
    where: Annotated[Selection, tyro.conf.arg(name="")] = field(default_factory=Selection)
    json: Path | None = None
    """Write the outcome to this file."""


def main(argv: list[str]) -> int:
    """Relabel and say how many episodes changed."""
    arguments = parse(Arguments, argv, verb="data relabel", examples=_EXAMPLES)
    ways = [bool(arguments.set), arguments.file is not None, arguments.success_by is not None]
    if sum(ways) != 1:
        raise ConfigError("relabel: give one of --set field=value, --file labels.json and --success-by CHECKPOINT")
    from vla.datasets.dataset import Dataset
    from vla.datasets.edit import relabel

    dataset = Dataset.open(arguments.dataset)
    changes: dict[str, Any]
    outcome: dict[str, Any] = {}
    if arguments.success_by is not None:
        changes, outcome = _seen(dataset, arguments.success_by, arguments)
    elif arguments.file is not None:
        changes = _read(arguments.file)
        if not all(isinstance(change, dict) for change in changes.values()):
            raise ConfigError(f"{arguments.file}: expected {{uid: {{field: value}}}}")
    else:
        chosen = dataset.episodes.uids[arguments.where.mask(dataset.episodes)]
        changes = {uid.decode(): parse_settings(arguments.set) for uid in chosen}
    if not changes:
        sure = f", or the checkpoint was sure ({arguments.sure}) of none" if arguments.success_by else ""
        raise ConfigError(f"relabel: no episode was chosen{sure}; nothing was published")
    number = relabel(dataset, changes, f"relabel of {len(changes)} episodes")
    console().print(f"{arguments.dataset}: version {number}, {len(changes):,} episodes relabelled")
    write_result(arguments.json, {"manifest": number, "relabelled": len(changes), **outcome})
    return 0


def _seen(dataset: "Dataset", checkpoint: Path, arguments: Arguments) -> tuple[dict[str, Any], dict[str, Any]]:
    """The labels of which the checkpoint is sure, and what is to be kept of how it came to them."""
    from dataclasses import asdict

    import numpy as np

    from vla.core.config import from_dict
    from vla.datasets.dataset import Dataset
    from vla.envs.prompts import Prompts
    from vla.models.contrastive.embedder import Embedder
    from vla.training.detector import fit_detector
    from vla.training.held_out import held_out

    if not arguments.calibrate:
        raise ConfigError(
            "relabel: how sure may the checkpoint be? name a dataset whose episodes' success is known with --calibrate"
        )
    if not 0.5 <= arguments.sure < 1:
        raise ConfigError(f"relabel: --sure {arguments.sure} must be at least 0.5 and below 1")
    file = arguments.prompts
    prompts = from_dict(Prompts, _read(file), where=str(file)) if file else None
    chosen = np.flatnonzero(arguments.where.mask(dataset.episodes))
    if not len(chosen):
        raise ConfigError("relabel: no episode was chosen; nothing was published")
    embedder, labelled = Embedder.open(checkpoint), Dataset.open(arguments.calibrate)
    detector, trust = fit_detector(embedder, labelled, held_out(checkpoint, labelled), prompts)
    probable = detector.probability(dataset, chosen)
    uids = [uid.decode() for uid in dataset.episodes.uids[chosen]]
    sure = np.maximum(probable, 1 - probable) >= arguments.sure
    changes = {uid: {"success": bool(p > 0.5)} for uid, p, is_sure in zip(uids, probable, sure, strict=True) if is_sure}
    area = trust.auroc
    console().print(
        f"AUROC {area.value:.3f} ({area.low:.3f} to {area.high:.3f}) on {area.successes} successes and {area.failures} "
        f"failures, beliefs are off by {100 * trust.error:.1f} % on average; sure of {len(changes)} of {len(uids)}"
    )
    kept = {"trust": asdict(trust), "probability": dict(zip(uids, probable.tolist(), strict=True))}
    return changes, kept


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected an object of JSON, got {type(value).__name__}")
    return value
