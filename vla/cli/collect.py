"""``vla collect``: record demonstrations."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vla.cli.command import console, parse, progress, show_config, write_result
from vla.collection.settings import CollectConfig
from vla.core.config import parse_settings

if TYPE_CHECKING:
    from vla.collection.experts import Collected

_EXAMPLES = """  vla collect data/place --episodes 2000
  vla collect data/calm --episodes 100 --disturbance.episode-share 0
  vla collect data/crowd --episodes 500 --set blocks=4 plates=3
  vla collect data/mt50 --env 'metaworld/*' --episodes 50 --set image_size=96
  vla collect data/corrected --policy runs/place/checkpoint --label expert --episodes 200
  vla collect data/taken --policy runs/place/checkpoint --label takeover --episodes 300
  vla collect data/late --policy runs/realtime/checkpoint --label expert --latency-steps 0 2 4 --episodes 600
  vla collect data/tail --policy runs/realtime/checkpoint --label expert --latencies run.json --episodes 300"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Record demonstrations of a scripted expert into a dataset; failed episodes are dropped and counted.

    With --policy that policy drives, and --label says who teaches: the expert, in each state that it reaches, failures
    too (DAgger), or a takeover, where the expert finishes what the policy began and only that is learned (HG-DAgger).
    With --latency-steps or --latencies its answers come late, as they would on a robot that does not wait for them.
    """

    dataset: Annotated[Path, tyro.conf.Positional]
    """Folder of the dataset; new episodes become a new version of one that exists."""
    config: Annotated[CollectConfig, tyro.conf.arg(name="")] = field(default_factory=CollectConfig)
    set: tuple[str, ...] = ()
    """Settings of the environment as key=value."""
    json: Path | None = None
    """Write what was collected to this file."""


def main(argv: list[str]) -> int:
    """Collect, with a progress bar."""
    arguments = parse(Arguments, argv, verb="collect", examples=_EXAMPLES)
    config = replace(arguments.config, settings=parse_settings(arguments.set))
    show_config("collect", config)
    collected = run(config, arguments.dataset)
    write_result(arguments.json, asdict(collected))
    return 0


def run(config: CollectConfig, dataset: Path) -> "Collected":
    """Collect and say what came of it."""
    from vla.collection.experts import collect
    from vla.envs.registry import match
    from vla.policies.table import find_policy, maker

    driver = maker(find_policy(config.policy), batch=1) if config.policy else None
    envs, _ = match(config.patterns, with_expert=True)
    with progress("failed") as bar:
        task = bar.add_task("collect", total=config.episodes * len(envs), failed="")
        failures: list[int] = []

        def on_episode(success: bool, steps: int) -> None:
            if not success:
                failures.append(steps)
            bar.update(task, advance=1, failed=f"{len(failures)} failed" if failures else "")

        collected = collect(config, dataset, on_episode, driver)
    console().print(
        f"{dataset}: version {collected.manifest}, {collected.episodes:,} new episodes, {collected.steps:,} steps, "
        f"{collected.failed} failed and {'kept' if driver else 'dropped'}"
        + (f", {collected.finished} ended before the expert took over and dropped" if collected.finished else "")
    )
    none = [env for env, count in collected.envs.items() if not count]
    for names, what in ((collected.missing, "not installed, left out"), (none, "the expert failed in all episodes of")):
        if names:
            console().print(f"{what}: {', '.join(names)}", style="red", markup=False)
    return collected
