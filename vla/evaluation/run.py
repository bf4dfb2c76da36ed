"""Closed-loop evaluation: many episodes, explicit seeds, several environments a process, several processes.

Every episode has its own seed and runs to its own end, so short (successful) episodes are not counted more often.
An episode that raises is a crash: reported, and no failure of the policy.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from vla.core.machine.processes import run_shares
from vla.core.machine.spawned import WorkerDiedError
from vla.evaluation.runner import Alive, Broken, Ended, EpisodeRunner, MakePolicy, Origin, Report, Share, Started
from vla.evaluation.settings import RunConfig
from vla.evaluation.slot import Refusal
from vla.evaluation.trials import Condition, EpisodeResult, Trial

_SHARES_PER_WORKER = 3
_STRIKES = 2
"""Deaths of its process after which an episode counts as crashed, and an environment as one that cannot be built."""


@dataclass(kw_only=True)
class Outcome:
    """What an evaluation has brought so far."""

    results: dict[str, tuple[Trial, EpisodeResult]] = field(default_factory=dict)
    """By the key of the trial, in the order in which they ended."""
    refusals: dict[str, Refusal] = field(default_factory=dict)
    """Conditions that an environment does not know, by their key."""
    origins: dict[str, Origin] = field(default_factory=dict)
    """What each environment says of itself."""

    def of(self, condition: Condition) -> list[EpisodeResult]:
        """The results of one condition by seed."""
        found = [result for trial, result in self.results.values() if trial.condition == condition]
        return sorted(found, key=lambda result: result.seed)


def run_trials(
    trials: Sequence[Trial],
    makers: Mapping[str, MakePolicy],
    config: RunConfig,
    *,
    outcome: Outcome | None = None,
    on_ended: Callable[[Trial, EpisodeResult], object] = lambda trial, result: None,
    stop: Callable[[], bool] = lambda: False,
    share_size: int | None = None,
    note: Callable[[str], object] = lambda text: None,
) -> Outcome:
    """Run the trials that ``outcome`` does not hold yet, and return it with their results.

    ``makers`` build the policies, by label. A process that dies, or that hangs and is ended, costs its running episodes
    one try, and where none ran the one environment that was being built; the second time the episodes are crashes, and
    the environment is an error. Once ``stop()`` is true, no share begins. An error in a share is raised here, once the
    shares that run beside it have ended. With ``share_size`` the trials are begun in their order, without it those of
    one environment together.
    """
    outcome = outcome or Outcome()
    watch = _Watch(outcome, on_ended)
    engine = "inline" if config.engine == "processes" and config.workers == 1 else config.engine
    suspects: set[str] = set()
    while pending := [t for t in trials if t.key not in outcome.results and t.condition.key not in outcome.refusals]:
        size = share_size or math.ceil(len(pending) / config.workers / _SHARES_PER_WORKER)
        shares = list(_shares(pending, max(config.batch, size), suspects, in_order=share_size is not None))
        runner = EpisodeRunner(
            makers=makers,
            execute=config.execute,
            ensemble=config.ensemble,
            lateness=config.lateness,
            speech=config.speech,
            batch=min(config.batch, max(len(share.trials) for share in shares)),
        )
        try:
            futures = run_shares(
                runner,
                shares,
                workers=config.workers,
                engine=engine,
                on_report=watch,
                stop=lambda: stop() or watch.bad,
                silence_s=config.patience_s,
                note=note,
            )
        finally:
            runner.close()
        suspects = watch.strike(shares, futures)
        if stop():
            break
    return outcome


def _shares(pending: Sequence[Trial], size: int, alone: Collection[str], in_order: bool) -> Iterator[Share]:
    """Groups of one policy, environment and settings; those ``alone`` have a share each.

    ``in_order`` of their earliest trials; else one environment after the other, so that each is built once a worker.
    """
    groups: dict[tuple[str, str, str], list[list[tuple[int, Trial]]]] = defaultdict(list)
    shares: list[list[tuple[int, Trial]]] = []
    for place, trial in enumerate(pending):
        group = groups[trial.condition.stage]
        if trial.key in alone:
            shares.append([(place, trial)])
            continue
        if not group or len(group[-1]) >= size:
            group.append([])
            shares.append(group[-1])
        group[-1].append((place, trial))
    first: dict[tuple[str, str], int] = {}
    for share in shares:
        place, trial = share[0]
        first.setdefault(trial.condition.stage[1:], place)

    def order(share: list[tuple[int, Trial]]) -> tuple[int, int]:
        place, trial = share[0]
        return (0 if in_order else first[trial.condition.stage[1:]]), place

    for share in sorted(shares, key=order):
        yield Share(trials=tuple(trial for _, trial in share))


class _Watch:
    """Takes the reports of the workers, and tells a worker's death from other ends."""

    def __init__(self, outcome: Outcome, on_ended: Callable[[Trial, EpisodeResult], object]) -> None:
        self._outcome, self._on_ended = outcome, on_ended
        self._running: dict[str, Trial] = {}
        self._strikes: dict[str, int] = defaultdict(int)
        self.bad = False
        """A share has broken off: no other shall begin."""

    def __call__(self, report: Report) -> None:
        if isinstance(report, Started):
            self._running[report.trial.key] = report.trial
        elif isinstance(report, Ended):
            self._running.pop(report.trial.key, None)
            self._end(report.trial, report.result)
        elif isinstance(report, Refusal):
            self._running.pop(report.trial.key, None)
            self._outcome.refusals[report.trial.condition.key] = report
        elif isinstance(report, Broken):
            self.bad = True
        elif not isinstance(report, Alive):
            self._outcome.origins[report.env] = report

    def strike(self, shares: Sequence[Share], futures: "Sequence[Future[Any]]") -> set[str]:
        """After all shares: the trials that were running in processes that died, to be tried again each alone.

        A share that raised anything else is raised here, and a death before a first episode that is not the first one.
        """
        suspects, unbuilt = set(), dict[str, BaseException]()
        for share, future in zip(shares, futures, strict=True):
            error = None if future.cancelled() else future.exception()
            if error is None:
                continue
            if not isinstance(error, WorkerDiedError):
                raise error
            running = [trial for trial in share.trials if self._running.pop(trial.key, None)]
            if not running and not any(trial.key in self._outcome.results for trial in share.trials):
                unbuilt[share.trials[0].condition.env] = error
            for trial in running:
                if self._struck(trial.key):
                    self._end(trial, _crashed(trial, f"{error}, twice"))
                else:
                    suspects.add(trial.key)
        for env, error in unbuilt.items():
            if self._struck(env):
                raise WorkerDiedError(f"{env}: {error}, before the first episode, twice")
        return suspects

    def _struck(self, what: str) -> bool:
        """Count a death; whether that was one too many."""
        self._strikes[what] += 1
        return self._strikes[what] >= _STRIKES

    def _end(self, trial: Trial, result: EpisodeResult) -> None:
        self._outcome.results[trial.key] = (trial, result)
        self._on_ended(trial, result)


def _crashed(trial: Trial, why: str) -> EpisodeResult:
    return EpisodeResult(seed=trial.seed, instruction="", goal="", success=False, steps=0, crash=why)
