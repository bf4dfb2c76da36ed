"""``vla envs``: list the environments."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.cli.command import console, parse, write_result
from vla.core.config import parse_settings

_EXAMPLES = """  vla envs
  vla envs --json envs.json
  vla envs --check tabletop/place --set image_size=32"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """List the environments that can be collected from and evaluated in, or check one."""

    check: str | None = None
    """Check that this environment keeps what the stack relies on: contract, repeatability, states, copies."""
    set: tuple[str, ...] = ()
    """Settings of the environment to check as key=value."""
    json: Path | None = None
    """Also write the list to this file."""


def main(argv: list[str]) -> int:
    """Print a table of all environments."""
    arguments = parse(Arguments, argv, verb="envs", examples=_EXAMPLES)
    if arguments.check is not None:
        return _check(arguments.check, parse_settings(arguments.set))
    from rich.table import Table

    from vla.envs.registry import env_names, env_spec

    table = Table(
        "environment",
        "robot",
        "steps",
        "expert",
        "installed",
        "instruction, for example",
        box=None,
        padding=(0, 2, 0, 0),
    )
    rows: list[dict[str, Any]] = []
    for name in env_names():
        spec = env_spec(name)
        expert = spec.expert is not None
        installed = "yes" if spec.is_installed else f"no: pip install 'vla\\[{spec.needs}]'"
        steps = str(spec.max_steps or "?")
        table.add_row(name, spec.robot, steps, "yes" if expert else "no", installed, spec.instruction)
        rows.append(
            {
                "name": name,
                "summary": spec.summary,
                "robot": spec.robot,
                "instruction": spec.instruction,
                "max_steps": spec.max_steps,
                "expert": expert,
                "needs": spec.needs,
                "installed": spec.is_installed,
            }
        )
    console().print(table)
    write_result(arguments.json, {"environments": rows})
    return 0


def _check(name: str, settings: dict[str, Any]) -> int:
    from vla.envs.checker import check_env
    from vla.envs.registry import env_spec

    env = env_spec(name).build(settings)
    try:
        check_env(env)
    finally:
        env.close()
    console().print(f"{name}: contract, repeatability, states and copies are as they should be")
    return 0
