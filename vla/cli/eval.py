"""``vla eval``: policies in closed loop."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vla.cli.command import console, parse, parse_settings, show_config, write_result
from vla.cli.evaluating import Plan, document, environments, execute
from vla.core.errors import ConfigError
from vla.core.processes import Engine, cores
from vla.envs.spec import Language
from vla.evaluation.settings import LANGUAGE_TEST, EvaluationConfig

if TYPE_CHECKING:
    from vla.evaluation.trials import Condition, EpisodeResult

_EXAMPLES = """  vla eval runs/place/checkpoint --episodes 100 --seed 777000 --out runs/eval-place
  vla eval runs/place/checkpoint --language-test
  vla eval runs/place/checkpoint --robustness image_noise observation_latency_steps
  vla eval runs/place/checkpoint --env tabletop/place tabletop/lift --split seen distractors
  vla eval runs/new/checkpoint --against runs/old/checkpoint --sequential --episodes 500 --out runs/new-old
  vla eval --diff runs/eval-new runs/eval-old
  vla eval expert --env all --episodes 100 --out runs/experts
  vla eval --server ws://127.0.0.1:8000 --episodes 20
  vla eval runs/place/checkpoint --set blocks=3"""
Flag = tyro.conf.FlagCreatePairsOff


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Run a policy in closed loop on held-out scenes and report its success rate with a 95 % Wilson interval."""

    policy: Annotated[str, tyro.conf.Positional] = ""
    """A checkpoint folder, ``expert`` or ``random``."""
    server: str | None = None
    """Evaluate through a policy server instead: ws://HOST:PORT."""
    env: tuple[str, ...] = ("tabletop/place",)
    """Tasks, patterns of them ('metaworld/*'), or ``all`` that are installed."""
    split: tuple[str, ...] = ("",)
    """Splits of each task; by default its own."""
    language: Language = "right"
    """What the policy is told."""
    set: tuple[str, ...] = ()
    """Settings of the environments as key=value."""
    episodes: int = 100
    """Of each task, split and condition."""
    seed: int = 500_000
    """Episode i runs on seed + i, the same scenes for every policy."""
    execute: int | None = None
    """Steps of a chunk that run before the policy is asked again; by default what its checkpoint says, or all."""
    ensemble: float = 0.0
    """Weight of older chunks that cover a step, per request of age; 0 uses the newest alone."""
    language_test: Annotated[bool, Flag] = False
    """Also run the same scenes with a paraphrased, a blank and a wrong instruction."""
    robustness: tuple[str, ...] | None = None
    """Also run the same scenes with late, lost and noisy signals: all kinds, or those that are named."""
    against: str | None = None
    """Another policy, compared on the same scenes."""
    sequential: Annotated[bool, Flag] = False
    """With --against: take turns, and stop as soon as a test that allows for it knows which is better."""
    alpha: float = 0.05
    """Share of sequential comparisons without a difference that may claim one."""
    diff: tuple[Path, Path] | None = None
    """Compare two results, folders or files, instead of running anything."""
    out: Path | None = None
    """Folder that keeps every episode as it ends; the same command goes on with what is missing."""
    workers: int = field(default_factory=cores)
    """Processes on this machine."""
    batch: int = 10
    """Environments that share one inference in a worker."""
    engine: Engine = "processes"
    """Where the workers live."""
    json: Path | None = None
    """Write the result to this file too."""

    def config(self) -> EvaluationConfig:
        """How to run, on which seeds."""
        names = ("episodes", "seed", "language", "execute", "ensemble", "workers", "batch", "engine")
        values = {name: getattr(self, name) for name in names}
        return EvaluationConfig(env=self.env[0], settings=parse_settings(self.set), **values)


def main(argv: list[str]) -> int:
    """Evaluate, print tables, write JSON."""
    arguments = parse(Arguments, argv, verb="eval", examples=_EXAMPLES)
    if arguments.diff:
        return _diff(arguments)
    name = arguments.server or arguments.policy
    if not name:
        raise ConfigError("which policy? give a checkpoint folder, expert, random, or --server ws://HOST:PORT")
    if arguments.sequential and not arguments.against:
        raise ConfigError("--sequential compares two policies: name the other with --against")
    plan = _plan(name, arguments)
    show_config(f"evaluate {name}" + (f" against {arguments.against}" if arguments.against else ""), plan.shown())
    outcome = execute(plan, title=" against ".join(Path(n).name or n for n in plan.policies.values()))
    value = _comparison(plan, outcome) if arguments.against else document(plan, outcome)
    _finish(arguments, plan, value)
    return 0


def run(name: str, config: EvaluationConfig, title: str | None = None) -> "list[EpisodeResult]":
    """Evaluate one policy under one condition, with a progress bar, and print the outcome."""
    from vla.evaluation.statistics import success_rate
    from vla.evaluation.trials import Condition

    condition = Condition(
        env=config.env, split=config.split, language=config.language, perturbation=config.perturbation
    )
    title = title or f"{Path(name).name}, {config.language} instruction"
    results = execute(Plan(policies={"": name}, conditions=[condition], config=config), title=title).of(condition)
    crashed = [r for r in results if r.crash]
    ran = [r for r in results if not r.crash]
    rate = success_rate(sum(r.success for r in ran), len(ran))
    console().print(f"{title}: success [bold]{rate}[/bold]")
    if config.language == "wrong":
        console().print(f"{title}: reached what was not said {sum(r.success_unsaid for r in ran)} times")
    if crashed:
        console().print(f"[red]{len(crashed)} episodes crashed[/red], the first: {crashed[0].crash}")
    return results


def _plan(name: str, arguments: Arguments) -> Plan:
    from vla.evaluation.robustness import robustness_conditions
    from vla.evaluation.sequential import SequentialTest
    from vla.evaluation.trials import Condition

    envs = environments(arguments.env, name)
    languages = LANGUAGE_TEST if arguments.language_test else (arguments.language,)
    plain = [Condition(env=env, split=split) for env in envs for split in arguments.split]
    conditions = [replace(c, language=language) for c in plain for language in languages]
    if arguments.robustness is not None:
        first = [c for c in conditions if c.language == languages[0]]
        disturbed = [c for c in robustness_conditions(first, arguments.robustness) if c.perturbation]
        conditions += disturbed
    policies = {"a": name, "b": arguments.against} if arguments.against else {"": name}
    test = None
    if arguments.sequential:
        test = SequentialTest(alpha=arguments.alpha, scenes=arguments.episodes * len(conditions))
    return Plan(
        policies=policies,
        conditions=_for_each(policies, conditions),
        config=arguments.config(),
        out=arguments.out,
        may_refuse=arguments.language_test,
        sequential=test,
    )


def _for_each(policies: Mapping[str, str], conditions: "list[Condition]") -> "list[Condition]":
    return [replace(condition, policy=label) for condition in conditions for label in policies]


def _comparison(plan: Plan, outcome: Any) -> dict[str, Any]:
    a, b = document(plan, outcome, "a"), document(plan, outcome, "b")
    return _compared(a, b) | {"sequential": plan.sequential.to_json() if plan.sequential else None}


def _compared(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    from vla.core.provenance import provenance
    from vla.evaluation.comparison import compare_rows

    rows = compare_rows(a["rows"], b["rows"])
    return {"kind": "comparison", "a": a, "b": b, "rows": rows, "sequential": None, "provenance": provenance()}


def _diff(arguments: Arguments) -> int:
    from vla.cli.eval_tables import show_comparison
    from vla.evaluation.comparison import require_same_scenes
    from vla.evaluation.folder import read_result

    assert arguments.diff is not None
    a, b = (read_result(path) for path in arguments.diff)
    for path, value in zip(arguments.diff, (a, b), strict=True):
        if value["kind"] != "evaluation":
            raise ConfigError(f"--diff {path}: expected the evaluation of one policy, got a {value['kind']}")
    require_same_scenes(a, b)
    value = _compared(a, b)
    show_comparison(value)
    write_result(arguments.json, value)
    if arguments.out:
        write_result(arguments.out / "result.json", value)
    return 0


def _finish(arguments: Arguments, plan: Plan, value: dict[str, Any]) -> None:
    from vla.cli.eval_tables import show_comparison, show_evaluation

    if value["kind"] == "comparison":
        show_comparison(value)
    else:
        show_evaluation(value)
    write_result(arguments.json, value)
    if plan.out:
        write_result(plan.out / "result.json", value)
        console().print(f"every episode and the result: {plan.out}", style="dim")
