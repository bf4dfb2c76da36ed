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
from vla.evaluation.runner import Broken, Ended, EpisodeRunner, MakePolicy, Origin, Report, Share, Started
from vla.evaluation.settings import RunConfig
from vla.evaluation.slot import Refusal
from vla.evaluation.trials import Condition, EpisodeResult, Trial

_SHARES_PER_WORKER = 3
_STRIKES = 2
"""Deaths of its process after which an episode counts as crashed."""


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
) -> Outcome:
    """Run the trials that ``outcome`` does not hold yet, about in their order, and return it with their results.

    ``makers`` build the policies, by label. A process
    that dies costs its running episodes one try; the second time they are crashes. Once ``stop()`` is true, no share
    begins. An error in a share is raised here, once the shares that run beside it have ended.
    """
    outcome = outcome or Outcome()
    watch = _Watch(outcome, on_ended)
    engine = "inline" if config.engine == "processes" and config.workers == 1 else config.engine
    suspects: set[str] = set()
    while pending := [t for t in trials if t.key not in outcome.results and t.condition.key not in outcome.refusals]:
        size = share_size or math.ceil(len(pending) / config.workers / _SHARES_PER_WORKER)
        shares = list(_shares(pending, max(config.batch, size), suspects))
        runner = EpisodeRunner(
            makers=makers,
            execute=config.execute,
            ensemble=config.ensemble,
            batch=min(config.batch, max(len(share.trials) for share in shares)),
        )
        try:
            futures = run_shares(
                runner, shares, workers=config.workers, engine=engine, on_report=watch, stop=lambda: stop() or watch.bad
            )
        finally:
            runner.close()
        suspects = watch.strike(shares, futures)
        if stop():
            break
    return outcome


def _shares(pending: Sequence[Trial], size: int, alone: Collection[str]) -> Iterator[Share]:
    """Groups of one policy, environment and settings, the earliest trial first; those ``alone`` have a share each."""
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
    for share in sorted(shares, key=lambda share: share[0][0]):
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
        else:
            self._outcome.origins[report.env] = report

    def strike(self, shares: Sequence[Share], futures: "Sequence[Future[Any]]") -> set[str]:
        """After all shares: the trials that were running in processes that died, to be tried again each alone.

        A share that raised anything else is raised here.
        """
        suspects = set()
        for share, future in zip(shares, futures, strict=True):
            error = None if future.cancelled() else future.exception()
            if error is not None and not isinstance(error, WorkerDiedError):
                raise error
            for trial in share.trials if error is not None else ():
                if self._running.pop(trial.key, None) is None:
                    continue
                self._strikes[trial.key] += 1
                if self._strikes[trial.key] < _STRIKES:
                    suspects.add(trial.key)
                else:
                    crash = f"{error}, twice"
                    self._end(
                        trial,
                        EpisodeResult(seed=trial.seed, instruction="", goal="", success=False, steps=0, crash=crash),
                    )
        return suspects

    def _end(self, trial: Trial, result: EpisodeResult) -> None:
        self._outcome.results[trial.key] = (trial, result)
        self._on_ended(trial, result)
