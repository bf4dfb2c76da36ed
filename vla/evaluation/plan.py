"""Everything that one evaluation runs: policies, conditions and seeds, the folder that keeps it, and its result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vla.core.config import to_dict
from vla.core.errors import ConfigError
from vla.core.provenance import folder_digest, provenance, versions
from vla.envs.registry import env_spec
from vla.evaluation.conditions import execution_rates, language_gaps, robustness_curves
from vla.evaluation.folder import ResultFolder, sessions
from vla.evaluation.result import FORMAT, EvaluationResult, PolicyIdentity
from vla.evaluation.rows import overall, rows_of, task_rows
from vla.evaluation.run import Outcome, run_trials
from vla.evaluation.runner import MakePolicy
from vla.evaluation.scenes.overlap import overlaps
from vla.evaluation.sequential import SequentialTest
from vla.evaluation.settings import RunConfig
from vla.evaluation.trials import Condition, EpisodeResult, Trial, trials_of


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A policy that is to be evaluated."""

    name: str
    make: MakePolicy
    files: tuple[Path, ...] = ()
    """What it is read from: a checkpoint's folder, or what its settings name."""

    @cached_property
    def identity(self) -> PolicyIdentity:
        """Its name, and the digest of its files as they are now."""
        return PolicyIdentity(name=self.name, digest=" ".join(folder_digest(path) for path in self.files))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that is to be run."""

    contenders: Mapping[str, Contender]
    """By label; the label is empty where there is only one."""
    conditions: Sequence[Condition]
    """Of all of them."""
    episodes: int
    """Of each condition."""
    seed: int
    """Episode i runs on seed + i."""
    run: RunConfig
    may_refuse: bool = False
    """Conditions that an environment does not know are left out, instead of being an error."""
    sequential: SequentialTest | None = None
    """With labels a and b: stops as soon as this is over."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ConfigError(f"evaluation: episodes={self.episodes} must be at least 1")
        for condition in self.conditions:
            env_spec(condition.env)  # an unknown name fails before any process starts

    @property
    def trials(self) -> list[Trial]:
        """All of them, in the order in which they are begun."""
        return trials_of(self.conditions, range(self.seed, self.seed + self.episodes))

    def overlaps(self, label: str) -> list[str]:
        """What to say of scenes that a contender was trained on."""
        path = Path(self.contenders[label].name)
        mine = [condition.env for condition in self.conditions if condition.policy == label]
        return list(overlaps(path, mine, self.seed, self.episodes)) if path.is_dir() else []

    def identity(self) -> dict[str, Any]:
        """What must agree for episodes to belong together."""
        return {
            "format": FORMAT,
            "policies": {label: asdict(contender.identity) for label, contender in self.contenders.items()},
            "conditions": [asdict(condition) for condition in self.conditions],
            "seed": self.seed,
            "episodes": self.episodes,
            **{name: getattr(self.run, name) for name in ("execute", "ensemble", "batch")},
            **self.run.computing,
            **({"latency": asdict(self.run.lateness)} if self.run.lateness else {}),
            **({"speech": self.run.speech} if self.run.speech else {}),
            "sequential": {"alpha": self.sequential.alpha} if self.sequential else None,
            "versions": versions(),
        }


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far an evaluation has come."""

    done: int
    total: int
    succeeded: int
    log10_e: float | None = None
    """Of the evidence of a sequential test."""


OnProgress = Callable[[Progress], object]
Note = Callable[[str], object]


@dataclass(kw_only=True)
class _Referee:
    """Hands finished pairs to the sequential test in the order of the scenes, whatever ended first."""

    test: SequentialTest
    pairs: Sequence[tuple[Trial, Trial]]
    outcome: Outcome
    next: int = 0

    def look(self) -> None:
        """Take all pairs that are complete and next."""
        results = self.outcome.results
        while self.next < len(self.pairs) and not self.test.over:
            found = [results.get(trial.key) for trial in self.pairs[self.next]]
            if not all(found):
                return
            a, b = (None if entry is None or entry[1].crash else entry[1].success for entry in found)
            self.test.add(a, b)
            self.next += 1


def execute(plan: Plan, *, on_progress: OnProgress = lambda p: None, note: Note = lambda text: None) -> Outcome:
    """Run what is missing; an interrupt leaves every finished episode in the folder.

    ``on_progress`` hears of every episode, and ``note`` of what a person should know: a line of words.
    """
    for label in plan.contenders:
        for line in plan.overlaps(label):
            note(line)
    if plan.run.out is None:
        return _run(plan, Outcome(), lambda trial, result: None, on_progress, note)
    with ResultFolder(plan.run.out, plan.identity(), provenance()) as folder:
        if folder.outcome.results:
            note(f"{plan.run.out}: {len(folder.outcome.results)} episodes are there already")
        try:
            return _run(plan, folder.outcome, folder.append, on_progress, note)
        except KeyboardInterrupt:
            done = len(folder.outcome.results)
            raise KeyboardInterrupt(
                f"stopped; {done} episodes are kept in {plan.run.out}, run the same command again to go on"
            ) from None


def result_of(plan: Plan, outcome: Outcome, label: str = "") -> EvaluationResult:
    """The result of one policy."""
    rows = rows_of(outcome, [condition for condition in plan.conditions if condition.policy == label])
    commits = {entry["git"] for entry in sessions(plan.run.out)} if plan.run.out else set()
    count = len(sessions(plan.run.out)) if plan.run.out else 1
    return EvaluationResult(
        policy=plan.contenders[label].identity,
        success=overall(task_rows(rows)),
        rows=tuple(rows),
        language=tuple(language_gaps(rows)),
        robustness=tuple(robustness_curves(rows)),
        executions=tuple(execution_rates(rows)),
        overlaps=tuple(plan.overlaps(label)),
        refused=tuple(refusal.reason for refusal in outcome.refusals.values()),
        origins=dict(sorted(outcome.origins.items())),
        config={"episodes": plan.episodes, "seed": plan.seed, **to_dict(plan.run)},
        provenance=provenance(seed=plan.seed, sessions=max(1, count), commits=sorted(filter(None, commits))),
    )


def _run(
    plan: Plan,
    outcome: Outcome,
    keep: Callable[[Trial, EpisodeResult], object],
    on_progress: OnProgress,
    note: Note,
) -> Outcome:
    trials, test = plan.trials, plan.sequential
    referee = _referee(test, trials, outcome) if test else None
    succeeded = sum(result.success for _, result in outcome.results.values())

    def tell() -> None:
        if referee:
            referee.look()
        evidence = test.path[-1] if test and test.path else None
        done = len(outcome.results)
        on_progress(Progress(done=done, total=len(trials), succeeded=succeeded, log10_e=evidence))

    def on_ended(trial: Trial, result: EpisodeResult) -> None:
        nonlocal succeeded
        keep(trial, result)
        succeeded += result.success
        tell()

    def stop() -> bool:
        return bool(outcome.refusals and not plan.may_refuse) or bool(test and test.over)

    tell()
    makers = {label: contender.make for label, contender in plan.contenders.items()}
    size = plan.run.batch if referee else None
    run_trials(trials, makers, plan.run, outcome=outcome, on_ended=on_ended, stop=stop, share_size=size, note=note)
    for refusal in outcome.refusals.values():
        if not plan.may_refuse:
            raise ConfigError(refusal.reason)
        note(f"left out: {refusal.reason}")
    return outcome


def _referee(test: SequentialTest, trials: Sequence[Trial], outcome: Outcome) -> _Referee:
    pairs = [
        (trial, replace(trial, condition=replace(trial.condition, policy="b")))
        for trial in trials
        if trial.condition.policy == "a"
    ]
    return _Referee(test=test, pairs=pairs, outcome=outcome)
