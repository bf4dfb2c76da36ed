"""What an evaluation's worker does: it builds environments and policies once, and runs shares of trials in them.

Several environments share each inference. Their episodes begin together and at steps where all want a new chunk, so
that every inference is of as many as possible; each has a seed of its own and runs to its own end.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from vla.core.chunks import Execution
from vla.core.contract import require_match
from vla.core.delay import Lateness
from vla.core.errors import ConfigError, VlaError
from vla.core.machine.memory import give_back
from vla.core.types import ActionChunk, ClosablePolicy, Observation, Policy, SeededPolicy
from vla.envs.registry import env_spec
from vla.envs.spec import RobotEnv
from vla.evaluation.slot import Refusal, Slot
from vla.evaluation.trials import Condition, EpisodeResult, Trial

_BEAT_S = 0.2
_FIX = "Evaluate in the environment that it was made for, with the same settings, or train on data of this one"
MakePolicy = Callable[[str, Sequence[RobotEnv]], Policy]
"""Builds the policy inside a worker process, for the environments of one name; only experts look into these."""
Beat = Callable[[], None]


@dataclass(frozen=True)
class Lent:
    """Makes nothing: a policy that exists, and whose owner closes it."""

    policy: Policy

    def __call__(self, env: str, envs: Sequence[RobotEnv]) -> Policy:
        """The policy itself."""
        return self.policy


@dataclass(frozen=True, kw_only=True)
class Share:
    """Trials of one policy in one environment with the same settings: the smallest piece of work."""

    trials: tuple[Trial, ...]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What an environment says of itself."""

    env: str
    renderer: str
    contract: str
    """Its digest."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """An episode has begun; until it has ended, the death of its process is its own."""

    trial: Trial


@dataclass(frozen=True, kw_only=True)
class Ended:
    """An episode has ended, however."""

    trial: Trial
    result: EpisodeResult


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A share has come to an end that no other share would escape: an error that follows."""


@dataclass(frozen=True, kw_only=True)
class Alive:
    """Something has gone on: a step, an inference, one more environment."""


Report = Origin | Started | Ended | Refusal | Broken | Alive


@dataclass
class _Stage:
    """A policy and the environments that it acts in."""

    envs: list[RobotEnv]
    policy: Policy
    slots: list[Slot]
    owned: bool
    """Whether the policy was made for this stage."""

    def close(self) -> None:
        for env in self.envs:
            env.close()
        if self.owned and isinstance(self.policy, ClosablePolicy):
            self.policy.close()


@dataclass
class EpisodeRunner:
    """Pickled once for each worker; stages are built on first use and kept from share to share.

    It keeps as many stages as there are policies, so that those that take turns in one environment are not built anew
    each time; what fifty tasks need is what one needs.
    """

    makers: Mapping[str, MakePolicy]
    """By the policy's label."""
    execute: int | None
    ensemble: float | None
    lateness: Lateness
    batch: int
    speech: str = ""
    """The voice that says what is to be done; empty writes it."""
    _stages: "OrderedDict[tuple[str, str, str], _Stage]" = field(default_factory=OrderedDict)
    """The one that was used last comes last."""

    def __call__(self, share: Share, report: Callable[[Report], None]) -> None:
        """Run the trials of a share and report what happens; errors that a user can act on are raised."""
        pending, refused, beat = deque(share.trials), set[str](), _heart(report)
        condition = share.trials[0].condition
        try:
            while pending:
                stage = self._stage(condition, report, beat)
                _run(stage, pending, refused, report, beat)
                if any(slot.crashed for slot in stage.slots):  # who knows what state it is in: build it anew
                    self._stages.pop(condition.stage).close()
        except Exception:
            report(Broken())
            raise

    def close(self) -> None:
        """Free all environments."""
        while self._stages:
            self._stages.popitem()[1].close()

    def _stage(self, condition: Condition, report: Callable[[Report], None], beat: Beat) -> _Stage:
        if condition.stage not in self._stages:
            self._make_room()
            self._stages[condition.stage] = self._build(condition, report, beat)
        self._stages.move_to_end(condition.stage)
        return self._stages[condition.stage]

    def _make_room(self) -> None:
        """Close what was not used for longest, before anything else is built."""
        while len(self._stages) >= len(self.makers):
            self._stages.popitem(last=False)[1].close()
        give_back()  # environments refer to themselves, and hold most of their memory where Python does not see it

    def _build(self, condition: Condition, report: Callable[[Report], None], beat: Beat) -> _Stage:
        name, spec, make = condition.env, env_spec(condition.env), self.makers[condition.policy]
        envs: list[RobotEnv] = []
        try:
            for _ in range(self.batch):
                envs.append(spec.build(condition.settings))
                beat()
            report(Origin(env=name, renderer=envs[0].renderer, contract=envs[0].contract.digest()))
            policy = make(name, envs)
            require_match(policy.contract, envs[0].contract, who="the policy", whom=f"environment {name}", fix=_FIX)
            trained = policy.contract.policy
            execution = Execution.of(trained, execute=self.execute, ensemble=self.ensemble)
            told = self.lateness.heard(policy.contract, execution)
            if self.speech and trained and not trained.speech:
                raise ConfigError(
                    f"evaluation: speech={self.speech}: the policy reads instructions and was not trained to listen; "
                    "leave it out, or train with model.readers.sound"
                )
        except BaseException:
            for env in envs:
                env.close()
            raise
        history, horizon = (trained.history, trained.horizon) if trained else (1, None)
        slots = [
            Slot(
                env,
                execution,
                history=history,
                horizon=horizon,
                lateness=self.lateness,
                told=told,
                speech=self.speech,
            )
            for env in envs
        ]
        return _Stage(envs, policy, slots, owned=not isinstance(make, Lent))


def _heart(report: Callable[[Report], None]) -> Beat:
    """Says that things go on, now and then."""
    last = time.monotonic()

    def beat() -> None:
        nonlocal last
        if time.monotonic() - last >= _BEAT_S:
            report(Alive())
            last = time.monotonic()

    return beat


def _run(stage: _Stage, pending: deque[Trial], refused: set[str], report: Callable[[Report], None], beat: Beat) -> None:
    """Run trials until none is pending, or one has crashed and the others that ran have ended."""
    slots = stage.slots
    while True:
        _collect(slots, refused, report)
        running = [slot for slot in slots if slot.running]
        crashed = any(slot.crashed for slot in slots)
        if not crashed and (not running or any(slot.wants_chunk for slot in running)):
            _start(stage, pending, refused, report)
            _collect(slots, refused, report)
        if not any(slot.running for slot in slots):
            if crashed or not pending:
                return
            continue  # those that were to begin were refused, or crashed at once
        _ask(stage, beat)
        for slot in slots:
            slot.step()
            beat()


def _start(stage: _Stage, pending: deque[Trial], refused: set[str], report: Callable[[Report], None]) -> None:
    for index, slot in enumerate(stage.slots):
        while pending and not slot.running and slot.ended is None and not slot.crashed:
            trial = pending.popleft()
            if trial.condition.key in refused:
                continue
            report(Started(trial=trial))
            stage.policy.reset(index)
            if isinstance(stage.policy, SeededPolicy):
                stage.policy.seed(index, trial.seed)
            slot.start(trial)


def _collect(slots: Sequence[Slot], refused: set[str], report: Callable[[Report], None]) -> None:
    for slot in slots:
        if isinstance(slot.ended, Refusal):
            refused.add(slot.ended.trial.condition.key)
            report(slot.ended)
        elif slot.ended is not None:
            trial, result = slot.ended
            report(Ended(trial=trial, result=result))
        slot.ended = None


def _ask(stage: _Stage, beat: Beat) -> None:
    """One inference for all slots that want a chunk now."""
    observations = [slot.observation if slot.wants_chunk else None for slot in stage.slots]
    asked = [i for i, observation in enumerate(observations) if observation is not None]
    if not asked:
        return
    start = time.perf_counter()
    try:
        chunks = stage.policy.act(observations)
    except VlaError:
        raise
    except Exception:
        _ask_each(stage, observations, asked, beat)
        return
    finally:
        beat()
    elapsed_ms = (time.perf_counter() - start) * 1e3
    if len(chunks) != len(observations):
        raise VlaError(f"the policy got {len(observations)} observations and returned {len(chunks)} answers")
    for i in asked:
        stage.slots[i].take(chunks[i], elapsed_ms)


def _ask_each(stage: _Stage, observations: Sequence[Observation | None], asked: Sequence[int], beat: Beat) -> None:
    """The policy raised: ask again for each alone, to know which episode it was, and end that one as a failure."""
    for i in asked:
        alone = [observation if k == i else None for k, observation in enumerate(observations)]
        start = time.perf_counter()
        try:
            chunk: ActionChunk | None = stage.policy.act(alone)[i]
        except VlaError:
            raise
        except Exception as error:
            stage.slots[i].fail(f"the policy raised {type(error).__name__}: {error}")
        else:
            stage.slots[i].take(chunk, (time.perf_counter() - start) * 1e3)
        beat()
