"""``vla data replay``: run recorded episodes open loop in their environment and compare."""

import math
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from vla.cli.command import console, parse, progress, write_result
from vla.core.config import parse_settings
from vla.core.errors import ConfigError

_EXAMPLES = """  vla data replay data/place --episodes 20
  vla data replay data/place --env tabletop/place --set image_size=64"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Send the recorded commands to the environment, open loop, and compare success and states with the recording."""

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL."""
    episodes: int = 10
    """How many, from the first on."""
    env: str | None = None
    """Environment; by default the task of each episode."""
    set: tuple[str, ...] = ()
    """Settings of the environment as key=value; by default those that it was recorded with."""
    manifest: int | None = None
    """Version; the latest by default."""
    json: Path | None = None
    """Write the outcome to this file."""


def main(argv: list[str]) -> int:
    """Replay, print a table, write JSON; exits with 1 if an episode does not end as recorded."""
    arguments = parse(Arguments, argv, verb="data replay", examples=_EXAMPLES)
    from vla.datasets.dataset import Dataset
    from vla.datasets.scenes import recorded_settings
    from vla.envs.open_loop import replay_open_loop
    from vla.envs.registry import env_spec

    dataset = Dataset.open(arguments.dataset, arguments.manifest)
    count = min(arguments.episodes, len(dataset.episodes))
    rows, last = [], ""
    with progress("agree") as bar, ExitStack() as opened:  # one environment at a time: a dataset may be of fifty
        task = bar.add_task("replay", total=count, agree="")
        for number in range(count):
            episode = dataset.read_episode(number)
            name = arguments.env or episode.task
            settings = parse_settings(arguments.set) if arguments.set else recorded_settings(dataset, number)
            key = f"{name} {sorted(settings.items())}"
            if key != last:
                opened.close()
                env, last = env_spec(name).build(settings), key
                opened.callback(env.close)
                dataset.require_contract(env.contract, f"environment {name}")
            rows.append(replay_open_loop(env, episode))
            bar.update(task, advance=1, agree=f"{sum(row.agrees for row in rows)} of {len(rows)} agree")
    return _report(arguments, rows)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2g}"


def _report(arguments: Arguments, rows: list[Any]) -> int:
    from rich.table import Table

    if not rows:
        raise ConfigError(f"{arguments.dataset} has no episodes to replay")
    table = Table("episode", "recorded", "replayed", "steps", "state error", "at the end", "simulator", "image error")
    for number, row in enumerate(rows):
        known = {True: "success", False: "failure", None: "unknown"}
        table.add_row(
            str(number),
            known[row.recorded_success],
            known[row.success] if row.agrees else f"[red]{known[row.success]}[/red]",
            f"{row.steps}/{row.recorded_steps}",
            f"{row.state_error:.2g}",
            f"{row.final_state_error:.2g}",
            _number(row.sim_state_error),
            _number(row.image_error),
        )
    console().print(table)
    agree, success = sum(row.agrees for row in rows), sum(row.success for row in rows)
    worst = max(row.state_error for row in rows)
    console().print(
        f"open loop: {success} of {len(rows)} succeed, {agree} end as recorded; largest state error {worst:.2g}"
    )
    plain = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(row).items()} for row in rows]
    write_result(
        arguments.json,
        {"episodes": plain, "success": success, "agree": agree, "count": len(rows), "state_error": worst},
    )
    return 0 if agree == len(rows) else 1
