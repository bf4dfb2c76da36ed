"""``vla info``: what a checkpoint is."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vla.cli.command import console, parse, write_result

if TYPE_CHECKING:
    from vla.evaluation.result import EvaluationResult
    from vla.models.info import CheckpointInfo, RobotInfo

_EXAMPLES = """  vla info runs/place/checkpoint
  vla info runs/place/checkpoint --check          (every file against the seal)
  vla info runs/place/checkpoint --results runs/experts --json info.json"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Say what a checkpoint is: kind, inputs, words known, horizon, rate, data, scores."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Folder of the checkpoint."""
    results: tuple[Path, ...] = ()
    """Folders in which evaluations of it are looked for, beside that of its run."""
    check: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Compare every file with the seal, and build the model, instead; 1 is the exit code of a damaged one."""
    json: Path | None = None
    """Write everything to this file."""


def main(argv: list[str]) -> int:
    """Read, print a table."""
    arguments = parse(Arguments, argv, verb="info", examples=_EXAMPLES)
    if arguments.check:
        return _check(arguments)
    from rich.table import Table

    from vla.core.provenance import folder_digest
    from vla.evaluation.folder import results_of
    from vla.models.info import checkpoint_info

    info = checkpoint_info(arguments.checkpoint)
    run = arguments.checkpoint.resolve().parent
    scores = [_score(*found) for found in results_of(folder_digest(arguments.checkpoint), (run, *arguments.results))]
    table = Table("", "", box=None, show_header=False, padding=(0, 2))
    none = "none found; vla eval CHECKPOINT --out FOLDER makes some, --results FOLDER shows them"
    for name, text in [*_lines(info), ("scores", "\n".join(map(_told, scores)) or none)]:
        table.add_row(f"[bold]{name}[/bold]", text)
    console().print(table)
    write_result(arguments.json, {**asdict(info), "scores": scores})
    return 0


def _score(folder: Path, result: "EvaluationResult") -> dict[str, Any]:
    success = result.success
    return {
        "envs": sorted(result.origins),
        "episodes": success.episodes,
        "success": success.rate,
        "interval": [success.low, success.high],
        "folder": str(folder),
    }


def _told(score: dict[str, Any]) -> str:
    low, high = score["interval"]
    return (
        f"{', '.join(score['envs'])}: {score['success']:.0%} ({low:.0%} to {high:.0%}) "
        f"of {score['episodes']} episodes, {score['folder']}"
    )


def _check(arguments: Arguments) -> int:
    from vla.models.info import checkpoint_damage

    found = checkpoint_damage(arguments.checkpoint)
    for what in found:
        console().print("[red]damaged[/red] ", end="")
        console().print(what, markup=False)
    told = f"{len(found)} things are not as they were written; copy it again" if found else "nothing is wrong"
    console().print(f"{arguments.checkpoint}: {told}")
    write_result(arguments.json, {"damage": found})
    return 1 if found else 0


def _lines(info: "CheckpointInfo") -> list[tuple[str, str]]:
    """Name and value of each row."""
    reads = f"the last {info.history} observations" if info.history > 1 else "one observation"
    words = ", ".join(info.words)
    lines = [("kind", f"{info.kind}, {info.parameters:,} parameters")]
    for robot in info.robots:
        lines += _robot_lines(robot)
    lines += [
        ("reads", f"{reads}; instructions of up to {info.text_tokens} tokens{', and listens' if info.listens else ''}"),
        ("writes", f"chunks of {info.horizon} steps, of which {info.execute} are executed"),
        ("words", f"{len(info.words)}: {words}"),
        ("signals", ", ".join(info.signals) or "none"),
        ("data", ", ".join(f"{v.path} version {v.manifest}" for v in info.datasets) or "not recorded"),
    ]
    if info.training:
        told = ", ".join(
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in info.training.items()
        )
        lines.append(("training", told))
    lines.append(("written", f"{info.created or 'at an unknown time'}, commit {info.git[:12] or 'unknown'}"))
    return lines


def _robot_lines(robot: "RobotInfo") -> list[tuple[str, str]]:
    cameras = ", ".join(
        f"{c.name} {c.height}x{c.width}" + ("" if c.kind == "rgb" else f" {c.kind}") for c in robot.cameras
    )
    relative = [name for name, source in zip((d.name for d in robot.action), robot.relative_to, strict=True) if source]
    absolute = [d.name for d in robot.action if d.name not in relative]
    return [
        ("robot", f"{robot.name} at {robot.control_hz:g} Hz"),
        ("  cameras", cameras or "none"),
        ("  state", ", ".join(f"{d.name} ({d.unit})" for d in robot.state)),
        ("  actions", f"relative: {', '.join(relative) or 'none'}; absolute: {', '.join(absolute) or 'none'}"),
    ]
