"""``vla demo``: from nothing to an evaluated policy and a report."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vla.cli import collect as collect_verb
from vla.cli import eval as eval_verb
from vla.cli import report as report_verb
from vla.cli import train as train_verb
from vla.cli.command import Cluster, console, parse, show_config, write_result
from vla.collection.settings import CollectConfig
from vla.core.config import load_recipe, to_dict
from vla.core.errors import ConfigError
from vla.core.machine.ray_cluster import check_ray
from vla.envs.spec import Language
from vla.training.recipe import DataConfig, TrainConfig

if TYPE_CHECKING:
    from vla.evaluation.result import EvaluationResult

_EXAMPLES = """  vla demo
  vla demo --minutes 3 --out runs/quick --seed 7      (every phase, a lower score)"""
MINUTES = 10.0
DEMONSTRATIONS = 1200
_HELD_OUT_SEED = 500_000


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Collect demonstrations, train, evaluate in closed loop and report. The same command resumes what was stopped."""

    out: Path = Path("runs/demo")
    """Folder for the dataset, the run, the checkpoint, the evaluations and the report."""
    minutes: float = MINUTES
    """Time for everything, about, on two cores; less gives a quick run with a lower score."""
    recipe: str = "demo"
    """The training recipe: a file, or the name of one that comes with vla."""
    seed: int = 0
    engine: str | None = None
    """ray or inline; the recipe's by default."""
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = field(default_factory=Cluster)
    json: Path | None = None
    """Also write the policy's result to this file; it is in OUT/evaluation anyway."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much of everything the time buys."""

    demonstrations: int
    training: float
    """Share of the recipe's steps."""
    training_minutes: float
    """Training ends after this time at the latest."""
    episodes: int
    """Evaluated under each condition."""
    clips: int
    """Videos of successes, and of failures."""


def share_out(minutes: float) -> Budget:
    """All of the recipe and 100 scenes from the default time on; proportionally less of each for less time.

    The recipe's own number of steps, not the clock, ends training on an ordinary machine, so that the result does not
    depend on its speed; only a slow one runs into the limit.
    """
    if minutes < 0.1:
        raise ConfigError(
            f"demo: minutes={minutes:g} is too little for every phase; 3 is quick, {MINUTES:g} the default"
        )
    share = min(1.0, minutes / MINUTES)
    return Budget(
        demonstrations=max(16, round(DEMONSTRATIONS * share)),
        training=share,
        training_minutes=minutes if share == 1.0 else 0.6 * minutes,
        episodes=max(4, round(100 * share)),
        clips=4 if minutes >= 3 else 1,
    )


def main(argv: list[str]) -> int:
    """Run all phases and print where the report is."""
    from vla.report.evaluation.sentences import success_words

    arguments = parse(Arguments, argv, verb="demo", examples=_EXAMPLES)
    budget = share_out(arguments.minutes)
    config = _recipe(arguments, budget)
    if config.engine == "ray":
        check_ray()
    show_config(f"demo → {arguments.out}", {"budget": asdict(budget), "train": to_dict(config)})
    console().rule("[bold]collect")
    _collect(arguments, budget)
    console().rule("[bold]train")
    train_verb.run(config, arguments.out)
    console().rule("[bold]evaluate")
    result = _evaluate(arguments, budget)
    console().rule("[bold]report")
    page = _report(arguments, budget)
    write_result(arguments.json, result.to_json())
    console().print(f"\n[bold green]success {success_words(result.success)}[/bold green]\nreport: {page}")
    return 0


def _recipe(arguments: Arguments, budget: Budget) -> TrainConfig:
    config = load_recipe(TrainConfig, arguments.recipe)
    data: DataConfig = replace(config.data, path=str(arguments.out / "data"))
    if arguments.engine not in (None, "ray", "inline"):
        raise ConfigError(f"demo: engine must be ray or inline, got {arguments.engine!r}")
    engine: Any = arguments.engine or config.engine
    workers = 1 if engine == "inline" else config.workers
    threads = config.threads * config.workers // workers
    return replace(
        config,
        data=data,
        engine=engine,
        workers=workers,
        threads=threads,
        steps=max(20, round(config.steps * budget.training)),
        minutes=budget.training_minutes,
        seed=arguments.seed,
        validate_s=min(config.validate_s, budget.training_minutes * 60 / 6),
    )


def _collect(arguments: Arguments, budget: Budget) -> None:
    from vla.datasets.store.manifest import latest_number

    dataset = arguments.out / "data"
    if dataset.is_dir() and latest_number(dataset) is not None:
        console().print(f"{dataset} is there already: not collected again")
        return
    config = CollectConfig(episodes=budget.demonstrations, seed=1_000_000 * (arguments.seed + 1))
    collect_verb.run(config, dataset)


def _evaluate(arguments: Arguments, budget: Budget) -> "EvaluationResult":
    """The policy with the right, no and wrong words, and the yardsticks beside it, each kept in a folder."""
    from vla.evaluation.evaluate import evaluate

    runs: tuple[tuple[str, Path, Path, tuple[Language, ...]], ...] = (
        ("evaluate", arguments.out / "checkpoint", arguments.out / "evaluation", ("right", "blank", "wrong")),
        ("expert", Path("expert"), arguments.out / "yardsticks" / "expert", ("right",)),
        ("random", Path("random"), arguments.out / "yardsticks" / "random", ("right",)),
    )
    results = []
    for title, policy, folder, languages in runs:
        with eval_verb.episodes_bar(title) as bar:
            result = evaluate(
                policy,
                languages=languages,
                episodes=budget.episodes,
                seed=_HELD_OUT_SEED,
                out=folder,
                on_progress=bar,
                note=eval_verb.note,
            )
        results.append(result)
    return results[0]


def _report(arguments: Arguments, budget: Budget) -> Path:
    """What ``vla report`` makes of the folders."""
    page = arguments.out / "report.html"
    folders = [arguments.out / "evaluation", *(arguments.out / "yardsticks" / name for name in ("expert", "random"))]
    report_verb.write_page(page, report_verb.load_results(folders), title="vla demo", clips=budget.clips)
    return page
