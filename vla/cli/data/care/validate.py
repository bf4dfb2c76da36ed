"""``vla data validate``: whether a dataset can be trusted."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, progress, write_result
from vla.core.errors import ConfigError

_EXAMPLES = """  vla data validate data/place              (documents, and the size of every file)
  vla data validate data/place --full       (every checksum)
  vla data validate data/place --deep       (every frame, time and number)"""
_SHOWN = 40


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Check a dataset. Exits with 1 if anything is damaged; warnings alone exit with 0."""

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL."""
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Documents, the presence and size of every file, and the notes of imports; the default."""
    full: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also the checksum of every file."""
    deep: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also every frame, time and number."""
    manifest: int | None = None
    """Version; the latest by default."""
    json: Path | None = None
    """Write the findings to this file."""


def main(argv: list[str]) -> int:
    """Check, with a progress bar, and print the findings."""
    arguments = parse(Arguments, argv, verb="data validate", examples=_EXAMPLES)
    asked = [level for level in ("quick", "full", "deep") if getattr(arguments, level)]
    if len(asked) > 1:
        raise ConfigError(f"validate: give one of --quick, --full and --deep, got {' and '.join(asked)}")
    from vla.datasets.care.validate import Level, validate

    level: Level = asked[0] if asked else "quick"  # type: ignore[assignment]
    with progress() as bar:
        tasks = {}

        def on_progress(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase, total=total)
            bar.update(tasks[phase], completed=done)

        findings = validate(arguments.dataset, level, arguments.manifest, on_progress)
    counts = Counter(finding.severity for finding in findings)
    errors = counts["error"]
    for finding in findings[:_SHOWN]:
        colour = {"error": "red", "warning": "yellow", "note": "cyan"}[finding.severity]
        console().print(f"[{colour}]{finding.severity}[/{colour}] ", end="")
        console().print(f"{finding.where}: {finding.what}", markup=False)
    if len(findings) > _SHOWN:
        console().print(f"… and {len(findings) - _SHOWN} more; --json writes all of them")
    if findings:
        fix = "; vla data repair puts it in order" if errors else ""
        console().print(
            f"{arguments.dataset}: {errors} errors, {counts['warning']} warnings, {counts['note']} notes ({level}){fix}"
        )
    else:
        console().print(f"{arguments.dataset}: nothing is wrong ({level})")
    write_result(arguments.json, {"level": level, "errors": errors, "findings": [asdict(one) for one in findings]})
    return 1 if errors else 0
