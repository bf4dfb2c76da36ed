"""``vla demo``: from nothing to an evaluated policy and a report."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vla.cli import collect as collect_verb
from vla.cli import eval as eval_verb
from vla.cli import train as train_verb
from vla.cli.command import console, parse, show_config, write_result
from vla.collect.settings import CollectConfig
from vla.core.config import load_recipe, to_dict
from vla.core.errors import ConfigError
from vla.envs.spec import Language
from vla.evaluation.settings import EvaluationConfig
from vla.train.recipe import DataConfig, TrainConfig

_EXAMPLES = """  vla demo
  vla demo --minutes 3 --out runs/quick      (every phase, a lower score)
  vla demo --out runs/other-seed --seed 7"""
MINUTES = 10.0
DEMONSTRATIONS = 1200
_HELD_OUT_SEED = 500_000
_RECIPE = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Collect demonstrations, train, evaluate in closed loop and report. The same command resumes what was stopped."""

    out: Path = Path("runs/demo")
    """Folder for the dataset, the run, the checkpoint and the report."""
    minutes: float = MINUTES
    """Time for everything, about, on two cores; less gives a quick run with a lower score."""
    recipe: Path = _RECIPE
    """The training recipe."""
    seed: int = 0
    engine: str | None = None
    """ray or inline; the recipe's by default."""
    json: Path | None = None
    """Also write the report's facts to this file; they are in OUT/report.json anyway."""


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
    if minutes < 0.3:
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


@dataclass(frozen=True, kw_only=True)
class _Phases:
    """What each phase took."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def __call__(self, name: str) -> Iterator[dict[str, Any]]:
        row: dict[str, Any] = {"name": name, "seconds": 0.0, "note": None}
        started = time.monotonic()
        console().rule(f"[bold]{name}")
        yield row
        row["seconds"] = round(time.monotonic() - started, 1)
        self.rows.append(row)


def main(argv: list[str]) -> int:
    """Run all phases and print where the report is."""
    arguments = parse(Arguments, argv, verb="demo", examples=_EXAMPLES)
    budget = share_out(arguments.minutes)
    config = _recipe(arguments, budget)
    show_config(f"demo → {arguments.out}", {"budget": asdict(budget), "train": to_dict(config)})
    phases = _Phases()
    _collect(arguments, budget, phases)
    with phases("train") as row:
        train_verb.run(config, arguments.out)
        row["note"] = f"{config.steps:,} steps, engine {config.engine}, workers: {config.workers}"
    evaluation = EvaluationConfig(episodes=budget.episodes, seed=_HELD_OUT_SEED)
    results = _evaluate(arguments, evaluation, phases)
    facts = _report(arguments, budget, config, evaluation, results, phases)
    write_result(arguments.json, facts)
    success, page = facts["success"], arguments.out / "report.html"
    console().print(
        f"\n[bold green]success {success['rate']:.0%}[/bold green] "
        f"({success['successes']} of {success['episodes']} held-out scenes, "
        f"95 % interval {success['low']:.0%} to {success['high']:.0%})\nreport: {page}"
    )
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


def _collect(arguments: Arguments, budget: Budget, phases: _Phases) -> None:
    from vla.datasets.store.manifest import latest_number

    dataset = arguments.out / "data"
    if dataset.is_dir() and latest_number(dataset) is not None:
        console().print(f"{dataset} is there already: not collected again")
        return
    with phases("collect") as row:
        config = CollectConfig(episodes=budget.demonstrations, seed=1_000_000 * (arguments.seed + 1))
        row["note"] = collect_verb.note(collect_verb.run(config, dataset))


_CONDITIONS: tuple[tuple[str, Language], ...] = (
    ("policy", "right"),
    ("blank instruction", "blank"),
    ("wrong instruction", "wrong"),
)
_CLIPS: tuple[tuple[str, Language, int, int], ...] = (
    ("policy", "right", 4, 4),
    ("wrong instruction", "wrong", 1, 1),
    ("blank instruction", "blank", 1, 1),
)
"""Condition, what is said, and the most videos of its successes and of its failures."""


def _evaluate(arguments: Arguments, config: EvaluationConfig, phases: _Phases) -> dict[str, Any]:
    """Episodes of each condition, by name."""
    results: dict[str, Any] = {}
    with phases("evaluate") as row:
        checkpoint = str(arguments.out / "checkpoint")
        for name, language in _CONDITIONS:
            results[name] = eval_verb.run(checkpoint, replace(config, language=language), title=name)
        row["note"] = f"{len(_CONDITIONS)} conditions of {config.episodes} held-out scenes"
    with phases("baselines") as row:
        for name in ("expert", "random"):
            results[name] = eval_verb.run(name, config, title=name)
        row["note"] = f"expert and random, {config.episodes} scenes each"
    return results


def _report(
    arguments: Arguments,
    budget: Budget,
    config: TrainConfig,
    evaluation: EvaluationConfig,
    results: dict[str, Any],
    phases: _Phases,
) -> dict[str, Any]:
    """Render videos and the page; returns the facts, which are also in ``report.json``."""
    from vla.core.files import write_atomic, write_json
    from vla.report.facts import demo_facts
    from vla.report.media import record_clips
    from vla.report.page import render_report

    with phases("report") as row:
        clips = [
            clip
            for name, language, successes, failures in _CLIPS
            for clip in record_clips(
                results[name],
                replace(evaluation, language=language),
                condition=name,
                successes=min(budget.clips, successes),
                failures=min(budget.clips, failures),
            )
        ]
        row["note"] = f"{len(clips)} videos"
    facts = demo_facts(results, phases.rows, config, evaluation, run=arguments.out)
    write_atomic(arguments.out / "report.html", render_report(facts, clips).encode())
    write_json(arguments.out / "report.json", facts)
    return facts
