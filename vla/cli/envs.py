"""``vla envs``: list the environments."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.cli.command import console, parse, write_result


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """List the environments that can be collected from and evaluated in."""

    json: Path | None = None
    """Also write the list to this file."""


def main(argv: list[str]) -> int:
    """Print a table of all environments."""
    arguments = parse(Arguments, argv, verb="envs", examples="  vla envs\n  vla envs --json envs.json")
    from rich.table import Table

    from vla.envs.registry import ENVS

    table = Table("environment", "robot", "steps", "expert", "instruction, for example", box=None, padding=(0, 2, 0, 0))
    rows: list[dict[str, Any]] = []
    for name, spec in ENVS.items():
        expert = spec.expert is not None
        table.add_row(name, spec.robot, str(spec.horizon), "yes" if expert else "no", spec.instruction)
        rows.append(
            {
                "name": name,
                "summary": spec.summary,
                "robot": spec.robot,
                "instruction": spec.instruction,
                "horizon": spec.horizon,
                "expert": expert,
                "needs": spec.needs,
            }
        )
    console().print(table)
    write_result(arguments.json, {"environments": rows})
    return 0
