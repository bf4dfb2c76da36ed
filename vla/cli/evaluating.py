"""Running what ``vla eval`` was asked for: conditions, policies, a folder that keeps episodes, and the result."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla.cli.command import console, progress
from vla.core.errors import ConfigError
from vla.evaluation.settings import EvaluationConfig

if TYPE_CHECKING:
    from vla.evaluation.run import Outcome
    from vla.evaluation.sequential import SequentialTest
    from vla.evaluation.trials import Condition, EpisodeResult, Trial

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that is to be run."""

    policies: Mapping[str, str]
    """Names by label; the label is empty where there is only one."""
    conditions: Sequence["Condition"]
    """Of all policies."""
    config: EvaluationConfig
    """How, and on which seeds."""
    out: Path | None = None
    """Where every episode is kept."""
    may_refuse: bool = False
    """Conditions that an environment does not know are left out, instead of being an error."""
    sequential: "SequentialTest | None" = None
    """With labels a and b: stops as soon as this is over."""

    @property
    def seeds(self) -> range:
        """Of every condition."""
        return range(self.config.seed, self.config.seed + self.config.episodes)

    def shown(self) -> dict[str, Any]:
        """What to tell before it runs."""
        from vla.core.config import to_dict

        per_condition = ("env", "split", "language", "perturbation")
        config = {key: value for key, value in to_dict(self.config).items() if key not in per_condition}
        tasks = list(dict.fromkeys(condition.env for condition in self.conditions))
        episodes = len(self.conditions) * self.config.episodes
        return {"tasks": tasks, "conditions": len(self.conditions), "episodes in all": episodes} | config

    def identity(self) -> dict[str, Any]:
        """What must agree for episodes to belong together."""
        from vla.cli.contenders import identity
        from vla.core.provenance import versions

        config = self.config
        values = {name: getattr(config, name) for name in ("settings", "seed", "episodes", "execute", "ensemble")}
        sequential = {"alpha": self.sequential.alpha} if self.sequential else None
        return {
            "format": FORMAT,
            "policies": {label: identity(name) for label, name in self.policies.items()},
            "conditions": [asdict(condition) for condition in self.conditions],
            **values,
            "batch": config.batch,
            "sequential": sequential,
            "versions": versions(),
        }


@dataclass(kw_only=True)
class _Referee:
    """Hands finished pairs to the sequential test in the order of the scenes, whatever ended first."""

    test: "SequentialTest"
    pairs: Sequence[tuple["Trial", "Trial"]]
    outcome: "Outcome"
    _next: int = field(default=0)

    def look(self) -> None:
        """Take all pairs that are complete and next."""
        results = self.outcome.results
        while self._next < len(self.pairs) and not self.test.over:
            found = [results.get(trial.key) for trial in self.pairs[self._next]]
            if not all(found):
                return
            a, b = (None if entry is None or entry[1].crash else entry[1].success for entry in found)
            self.test.add(a, b)
            self._next += 1


def execute(plan: Plan, *, title: str) -> "Outcome":
    """Run what is missing, with a progress bar; an interrupt leaves every finished episode in the folder."""
    from vla.core.provenance import provenance
    from vla.evaluation.folder import ResultFolder
    from vla.evaluation.run import Outcome

    if plan.out is None:
        return _run(plan, title, Outcome(), lambda trial, result: None)
    with ResultFolder(plan.out, plan.identity(), provenance()) as folder:
        done = len(folder.outcome.results)
        if done:
            console().print(f"{plan.out}: {done} episodes are there already", style="dim")
        try:
            return _run(plan, title, folder.outcome, folder.append)
        except KeyboardInterrupt:
            done = len(folder.outcome.results)
            raise KeyboardInterrupt(
                f"stopped; {done} episodes are kept in {plan.out}, run the same command again to go on"
            ) from None


def _run(plan: Plan, title: str, outcome: "Outcome", keep: Any) -> "Outcome":
    from vla.cli.contenders import contender
    from vla.envs.registry import env_spec
    from vla.evaluation.run import run_trials
    from vla.evaluation.trials import trials_of

    config = plan.config
    trials = trials_of(plan.conditions, plan.seeds)
    needed = {(condition.policy, condition.env) for condition in plan.conditions}
    for _, env in needed:
        env_spec(env)
    makers = {(p, env): contender(plan.policies[p], env, config.seed, config.batch) for p, env in needed}
    referee = _referee(plan, trials, outcome)
    seen = [result.success for _, result in outcome.results.values()]
    with progress("rate") as bar:
        task = bar.add_task(title, total=len(trials), completed=len(seen), rate="")

        def on_ended(trial: "Trial", result: "EpisodeResult") -> None:
            keep(trial, result)
            seen.append(result.success)
            rate = f"{sum(seen)} of {len(seen)} succeeded"
            if referee:
                referee.look()
                rate = f"E = {10 ** referee.test.path[-1]:.3g}" if referee.test.path else ""
            bar.update(task, advance=1, rate=rate)

        def stop() -> bool:
            return bool(outcome.refusals and not plan.may_refuse) or bool(referee and referee.test.over)

        if referee:
            referee.look()
        size = config.batch if referee else None
        run_trials(trials, makers, config, outcome=outcome, on_ended=on_ended, stop=stop, share_size=size)
    for refusal in outcome.refusals.values():
        if not plan.may_refuse:
            raise ConfigError(refusal.reason)
        console().print(f"left out: {refusal.reason}", style="dim", markup=False)
    return outcome


def _referee(plan: Plan, trials: "Sequence[Trial]", outcome: "Outcome") -> _Referee | None:
    if plan.sequential is None:
        return None
    from dataclasses import replace

    pairs = [
        (trial, replace(trial, condition=replace(trial.condition, policy="b")))
        for trial in trials
        if trial.condition.policy == "a"
    ]
    return _Referee(test=plan.sequential, pairs=pairs, outcome=outcome)


def document(plan: Plan, outcome: "Outcome", label: str = "") -> dict[str, Any]:
    """The machine-readable result of one policy."""
    from vla.core.config import to_dict
    from vla.core.provenance import provenance
    from vla.evaluation.folder import sessions
    from vla.evaluation.language_gap import language_gaps
    from vla.evaluation.result import overall, rows_of
    from vla.evaluation.robustness import robustness_curves

    rows = rows_of(outcome, [condition for condition in plan.conditions if condition.policy == label])
    plain = [row for row in rows if row["language"] == plan.conditions[0].language and not row["perturbation"]]
    origins = {env: {"renderer": o.renderer, "contract": o.contract} for env, o in sorted(outcome.origins.items())}
    earlier = [entry["git"] for entry in sessions(plan.out)] if plan.out else []
    return {
        "kind": "evaluation",
        "format": FORMAT,
        "policy": plan.identity()["policies"][label],
        "success": overall(plain),
        "rows": rows,
        "language": language_gaps(rows),
        "robustness": robustness_curves(rows),
        "refused": [refusal.reason for refusal in outcome.refusals.values()],
        "environments": origins,
        "config": to_dict(plan.config),
        "provenance": provenance(
            seed=plan.config.seed, sessions=max(1, len(earlier)), commits=sorted({git for git in earlier if git})
        ),
    }


def environments(patterns: Sequence[str], policy: str) -> list[str]:
    """Names as they are; patterns with ``*``, and ``all``, as what is installed and, for the expert, has one."""
    from fnmatch import fnmatchcase

    names: list[str] = []
    for pattern in patterns:
        if pattern != "all" and "*" not in pattern:
            names.append(pattern)
            continue
        found = [name for name in _installed(policy) if pattern == "all" or fnmatchcase(name, pattern)]
        if not found:
            raise ConfigError(f"--env {pattern}: no environment is called like that; vla envs lists them")
        names += found
    return list(dict.fromkeys(names))


def _installed(policy: str) -> list[str]:
    from importlib.util import find_spec

    from vla.envs.registry import ENVS

    names = [name for name, spec in ENVS.items() if spec.expert is not None or policy != "expert"]
    missing = [name for name in names if ENVS[name].module and find_spec(ENVS[name].module) is None]
    if missing:
        console().print(f"not installed, left out: {', '.join(missing)}", style="dim")
    return [name for name in names if name not in missing]
