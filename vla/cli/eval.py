"""``vla eval``: a policy in closed loop."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vla.cli.command import console, parse, parse_settings, progress, show_config, write_result
from vla.core.errors import ConfigError
from vla.envs.settings import LANGUAGES, EvaluationConfig, Language

if TYPE_CHECKING:
    from vla.envs.evaluation import EpisodeResult

_EXAMPLES = """  vla eval runs/place/checkpoint --episodes 100 --seed 777000 --json result.json
  vla eval runs/place/checkpoint --language-test
  vla eval expert --episodes 200
  vla eval random
  vla eval --server ws://127.0.0.1:8000 --episodes 20
  vla eval runs/place/checkpoint --set blocks=3"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Run a policy in closed loop on held-out scenes and report its success rate with a 95 % Wilson interval."""

    policy: Annotated[str, tyro.conf.Positional] = ""
    """A checkpoint folder, ``expert`` or ``random``."""
    config: Annotated[EvaluationConfig, tyro.conf.arg(name="")] = field(default_factory=EvaluationConfig)
    server: str | None = None
    """Evaluate through a policy server instead: ws://HOST:PORT."""
    language_test: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also run the same scenes with a blank and with a wrong instruction."""
    set: tuple[str, ...] = ()
    """Settings of the environment as key=value."""
    json: Path | None = None
    """Write the result to this file."""


def main(argv: list[str]) -> int:
    """Evaluate, print a table, write JSON."""
    arguments = parse(Arguments, argv, verb="eval", examples=_EXAMPLES)
    name = arguments.server or arguments.policy
    if not name:
        raise ConfigError("which policy? give a checkpoint folder, expert, random, or --server ws://HOST:PORT")
    config = replace(arguments.config, settings=parse_settings(arguments.set))
    show_config(f"evaluate {name}", config)
    languages = LANGUAGES if arguments.language_test else (config.language,)
    results = {language: run(name, replace(config, language=language)) for language in languages}
    write_result(arguments.json, outcome(name, config, results))
    return 0


def run(name: str, config: EvaluationConfig, title: str | None = None) -> "list[EpisodeResult]":
    """Evaluate one policy under one condition, with a progress bar, and print the outcome."""
    from vla.cli.policies import policy_maker
    from vla.envs.evaluation import evaluate
    from vla.envs.registry import env_spec
    from vla.envs.statistics import success_rate

    env_spec(config.env)
    make = policy_maker(name, config.env, config.seed)
    title = title or f"{Path(name).name}, {config.language} instruction"
    seen: list[bool] = []
    with progress("rate") as bar:
        task = bar.add_task(title, total=config.episodes, rate="")

        def on_episode(result: "EpisodeResult") -> None:
            seen.append(result.success)
            bar.update(task, advance=1, rate=f"{sum(seen)} of {len(seen)} succeeded")

        results = evaluate(config, make, on_episode)
    crashed = [r for r in results if r.crash]
    ran = [r for r in results if not r.crash]
    rate = success_rate(sum(r.success for r in ran), len(ran))
    console().print(f"{title}: success [bold]{rate}[/bold]")
    if config.language == "wrong":
        console().print(f"{title}: reached what was not said {sum(r.success_unsaid for r in ran)} times")
    if crashed:
        console().print(f"[red]{len(crashed)} episodes crashed[/red], the first: {crashed[0].crash}")
    return results


def outcome(name: str, config: EvaluationConfig, results: "Mapping[Language, list[EpisodeResult]]") -> dict[str, Any]:
    """The machine-readable result of an evaluation."""
    from vla.core.config import to_dict
    from vla.core.provenance import provenance
    from vla.envs.results import summarise

    conditions = {language: summarise(episodes) for language, episodes in results.items()}
    first: dict[str, Any] = next(iter(conditions.values()))
    return {
        "policy": name,
        "env": config.env,
        "success": first["success"],
        "instructions": first["instructions"],
        "conditions": conditions,
        "config": to_dict(config),
        "provenance": provenance(seed=config.seed, **_origin(name, config)),
    }


def _origin(name: str, config: EvaluationConfig) -> dict[str, Any]:
    """The renderer and the contracts that met."""
    from vla.core.contract import read_contract
    from vla.envs.registry import env_spec

    env = env_spec(config.env).make(config.settings)
    origin: dict[str, Any] = {"renderer": env.renderer, "environment_contract": env.contract.digest()}
    env.close()
    contract = Path(name) / "contract.json"
    return origin | ({"checkpoint_contract": read_contract(contract).digest()} if contract.exists() else {})
