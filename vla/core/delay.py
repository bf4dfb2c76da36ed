"""How late the answers of a policy are, in control steps: what a loop counts on, and what simulation lets happen."""

import json
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from vla.core.chunks import ChunkBuffer, Execution
from vla.core.contract import Contract
from vla.core.errors import ConfigError, ContractError
from vla.core.types import ActionChunk

DELAYS = "delays_ms"
"""Key of a report under which the times are that its answers took, from an observation on."""
_REMEMBERED = 10


class Delay:
    """How many steps go by between an observation and the first command that rests on it."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def measured(self, seconds: float) -> None:
        """One more; what a first inference takes does not belong here."""
        self._seconds.append(seconds)

    @property
    def steps(self) -> int:
        """To count on: the longest of the last ones, and at least one."""
        return max(1, whole_steps(max(self._seconds, default=0.0), self._period_s))


def whole_steps(seconds: float, period_s: float) -> int:
    """Steps until something that takes so long is there, to the microsecond."""
    return -(-round(seconds * 1e6) // round(period_s * 1e6))


@dataclass(frozen=True, kw_only=True)
class Lateness:
    """How late answers are: always by as many steps, or as drawn from times that were measured."""

    steps: int = 0
    ms: tuple[float, ...] = ()
    told: bool = True
    """Whether a policy that was trained for it hears which commands run until its answer is there."""

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"latency_steps={self.steps}: expected at least 0; give the steps that an answer takes")
        if self.steps and self.ms:
            raise ConfigError(f"latency_steps={self.steps} and latencies are both given; give one of them")
        if not all(0 < value < np.inf for value in self.ms):
            bad = next(value for value in self.ms if not 0 < value < np.inf)
            raise ConfigError(f"latencies: expected times in ms above 0, got {bad:g}; leave out what was not measured")

    def __bool__(self) -> bool:
        return bool(self.steps or self.ms)

    def seconds(self, rng: np.random.Generator, period_s: float) -> float:
        """Of one answer."""
        return float(rng.choice(self.ms)) / 1e3 if self.ms else self.steps * period_s

    def heard(self, policy: Contract, execution: Execution) -> int:
        """How many of the steps that run meanwhile ``policy`` hears at most: none that it was not trained for.

        One that was trained for that, but for less than will always be so, is a `ConfigError`; and so is one whose
        chunks are over before the next can be there.
        """
        spec = policy.policy
        if spec is None or not self:
            return 0
        execution.require_within(spec.horizon, self.steps)
        if (least := whole_steps(min(self.ms, default=0.0) / 1e3, 1 / policy.control_hz)) >= spec.horizon:
            raise ConfigError(
                f"latencies: the shortest, {min(self.ms):g} ms, is {least} steps at {policy.control_hz:g} Hz, and a "
                f"chunk of the policy has {spec.horizon}: each is over before it is there; expected times in ms, see "
                "whether these are in another unit"
            )
        if not self.told:
            return 0
        if 0 < spec.committed < self.steps:
            raise ConfigError(
                f"latency_steps={self.steps}: the checkpoint was trained for at most {spec.committed} steps that are "
                f"decided already; train with model.committed={self.steps}, or take a shorter latency"
            )
        return spec.committed


def measured_ms(path: Path) -> tuple[float, ...]:
    """Times in ms that were measured: a JSON list of them, or all that a report has under `DELAYS`."""
    expected = f'expected JSON: a list of times in ms, or a report with "{DELAYS}", as vla run --json writes it'
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"latencies {path}: {expected}; got {error}") from None
    times = value if isinstance(value, list) else list(_reported(value))
    if not times:
        raise ConfigError(f"latencies {path}: {expected}; got no time at all; measure some, or give latency_steps")
    for place, time in enumerate(times):
        if isinstance(time, bool) or not isinstance(time, int | float):
            raise ConfigError(f"latencies {path}: {expected}; got {time!r:.40} as number {place}; write [12.5, 31.0]")
    return tuple(float(time) for time in times)


def _reported(value: Any) -> Iterator[Any]:
    """What stands in all lists called `DELAYS` of a document, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from inner if name == DELAYS and isinstance(inner, list) else _reported(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _reported(inner)


class _Coming(NamedTuple):
    """A chunk that is on its way."""

    due: int
    """The step before which it is there."""
    committed: int
    chunk: ActionChunk


class LateChunks:
    """The commands of one episode whose answers come late: the older ones run on until a new chunk is there.

    Who steps an environment asks each step whether a chunk is wanted, gives the policy what it ``committed`` to beside
    the observation, takes its answer at once, and sends the ``command``. For the first chunk everybody waits.
    """

    def __init__(self, execution: Execution, lateness: Lateness, *, told: int, seed: int, period_s: float) -> None:
        """A policy is told of at most so many steps (`Lateness.heard`); ``seed`` draws how late each answer is."""
        self._buffer = ChunkBuffer(execution, latency=lateness.steps)
        self._lateness, self._told, self._period_s = lateness, told, period_s
        self._rng, self._delay = np.random.default_rng(seed), Delay(period_s)
        if lateness.steps:
            self._delay.measured(lateness.steps * period_s)
        self._coming: _Coming | None = None
        self._first, self._consumed = True, 0
        self._last: Float32[np.ndarray, " d"] | None = None

    @property
    def wants_chunk(self) -> bool:
        """Whether the policy is to be asked before the next command."""
        return self._coming is None and self._buffer.wants_chunk

    @property
    def committed(self) -> Float32[np.ndarray, "k d"] | None:
        """What a policy that is asked now is told of the commands that run until its answer is there."""
        told = min(self._delay.steps, self._told)
        return self._buffer.ahead(told) if told else None

    @property
    def clipped(self) -> bool:
        """Whether the next command was brought inside of the limits."""
        return self._buffer.clipped

    def take(self, chunk: ActionChunk) -> None:
        """What the policy answered to the observation of now; it is there as late as it is."""
        if (steps := len(chunk.actions)) <= self._lateness.steps:
            raise ConfigError(
                f"latency_steps={self._lateness.steps}: the policy answers with chunks of {steps} steps, which are "
                f"over before they are there; give at most {steps - 1}, or a policy with longer chunks"
            )
        first, self._first = self._first, False
        if not self._lateness or first:
            self._buffer.add(chunk)
            return
        committed = self.committed
        seconds = self._lateness.seconds(self._rng, self._period_s)
        self._delay.measured(seconds)
        if self._lateness.ms:
            self._buffer.latency = self._delay.steps
        due = self._buffer.step + whole_steps(seconds, self._period_s)
        behind = 0 if committed is None else len(committed)
        self._coming, self._consumed = _Coming(due=due, committed=behind, chunk=chunk), 0

    def command(self) -> Float32[np.ndarray, " d"]:
        """The command of this step; where nothing is there in time, the last one holds."""
        if self._buffer.empty:
            self._buffer.skip()
        else:
            self._last = self._buffer.pop()
            self._consumed += 1
        self._arrive()
        assert self._last is not None, "the first chunk is taken before the first command"
        return self._last

    def _arrive(self) -> None:
        """Take a chunk that is there now; of one that is over already, nothing is left."""
        if (coming := self._coming) is None or self._buffer.step < coming.due:
            return
        self._coming = None
        with suppress(ContractError):
            start = self._buffer.step - self._consumed  # what was held is not consumed
            self._buffer.add(coming.chunk, asked=start, committed=coming.committed)
