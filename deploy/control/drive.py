"""What goes into a drive and what comes of it: how to run a policy, each step, and what it all was like."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from vla.core.chunks import Execution
from vla.core.policy_spec import PolicySpec
from vla.core.types import Observation
from vla.deploy.control.cadence import Rhythm
from vla.deploy.robots.gate import Verdict

_log = logging.getLogger(__name__)
KEPT = 1 << 14
"""Numbers of which the median is taken: more than twenty minutes of ten answers a second."""
QUANTILES = 1001
"""That stand for all of them in a report."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One control period, as it went."""

    seen: Observation
    asked: Float32[np.ndarray, " d"] | None
    """What the policy wants; None where nobody is listened to."""
    verdict: Verdict
    """What passed the gate last in this period."""
    looked_ns: int
    """When the observation was taken, and"""
    sent_ns: int
    """when that was sent, both on the monotonic clock."""
    mode: str
    """``policy``, ``hold``, ``travel``, ``pause`` or ``stop``."""
    late_s: float
    """How late the loop woke up for it."""
    inference_s: float | None
    """What the last answer took; None before the first."""
    unsure: float | None
    """How far it disagreed with what it replaced, as a share of an action's range."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How a loop runs a policy."""

    execution: Execution | None = None
    """By default what the policy says."""
    ahead: bool = False
    """Do not wait for answers."""
    committed: bool = True
    """Running ahead, tell the policy what will run until its answer is there, if it was trained for that."""
    refuse: bool = False
    """Refuse a first target that is far from where the robot stands (`Motion.jump`), instead of going there slowly."""
    unsure: float = np.inf
    """Pause where overlapping chunks disagree by more than this share of an action's range."""


@dataclass(frozen=True, kw_only=True)
class Drive:
    """What a drive was like; times of the policy are in ms, and None where there was none."""

    steps: int
    """Control periods."""
    inferences: int
    late: int
    """Commands that left more than half a servo period after their deadline."""
    starved: int
    """Steps for which no command was there: the last one was held."""
    wasted: int
    """Answers that came when all of their steps were over."""
    failures: int
    """Questions that the policy did not answer, each asked again."""
    clipped: int
    """Steps of which the command was outside of the robot's limits, and was brought inside."""
    states_clipped: int
    """Observations of which the state was: see `vla.core.contract.Contract.tolerance`."""
    gated: Mapping[str, int]
    """Commands that were changed by the gate, by reason; one may have several."""
    rhythm: Rhythm
    inference_p50_ms: float | None
    inference_max_ms: float | None
    delays_ms: tuple[float, ...]
    """From an observation to its answer, rising: all of them, or so many quantiles from the least to the most, as
    ``vla eval --latencies`` and ``vla collect --latencies`` take them."""
    reaction_p50_ms: float | None
    """From an observation to the first command that rests on the next one: how late what happens now is acted on."""
    reaction_max_ms: float | None
    unsure_p50: float | None
    """How far overlapping chunks disagree, as a share of the range of the action that does most."""
    unsure_max: float | None
    ended: str
    """Why it is over."""


class Recent:
    """Numbers of a drive that may go on for days: the last ones, and the most of all."""

    def __init__(self) -> None:
        self._values = np.full(KEPT, np.nan)  # all of its room is taken now, and none while a robot is driven
        self._count = 0
        self._most = -np.inf

    def append(self, value: float) -> None:
        """One more; the oldest that is kept makes room."""
        self._values[self._count % KEPT] = value
        self._count += 1
        self._most = max(self._most, value)

    @property
    def last(self) -> float | None:
        """The newest."""
        return float(self._values[(self._count - 1) % KEPT]) if self._count else None

    def spread(self) -> tuple[float, ...]:
        """Those that are kept, rising; of many, quantiles, the least and the most among them."""
        kept = self._values[: self._count]
        rising = np.quantile(kept, np.linspace(0, 1, min(len(kept), QUANTILES))) if len(kept) else kept
        return tuple(float(value) for value in rising)

    def typical(self) -> tuple[float | None, float | None]:
        """The median of those that are kept, and the most of all."""
        return (float(np.median(self._values[: self._count])), float(self._most)) if self._count else (None, None)


@dataclass
class Tally:
    """The counts of a drive that goes on."""

    counts: Counter[str] = field(default_factory=Counter)
    """Of what `Drive` counts, by the name there."""
    inference_s: Recent = field(default_factory=Recent)
    delay_s: Recent = field(default_factory=Recent)
    reaction_s: Recent = field(default_factory=Recent)
    unsure: Recent = field(default_factory=Recent)

    def drive(self, rhythm: Rhythm, gated: Mapping[str, int], ended: str) -> Drive:
        """All of it."""
        names = ("steps", "inferences", "late", "starved", "wasted", "failures", "clipped", "states_clipped")
        inference, reaction, unsure = self.inference_s.typical(), self.reaction_s.typical(), self.unsure.typical()
        return Drive(
            **{name: self.counts[name] for name in names},
            gated=dict(gated),
            rhythm=rhythm,
            inference_p50_ms=_ms(inference[0]),
            inference_max_ms=_ms(inference[1]),
            delays_ms=tuple(round(1e3 * seconds, 3) for seconds in self.delay_s.spread()),
            reaction_p50_ms=_ms(reaction[0]),
            reaction_max_ms=_ms(reaction[1]),
            unsure_p50=unsure[0],
            unsure_max=unsure[1],
            ended=ended,
        )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def note_stale_steps(execution: Execution, spec: PolicySpec | None, control_hz: float, stale_s: float) -> None:
    """Warn where the last steps of each chunk rest on an observation that the gate finds too old."""
    steps = execution.execute or (spec.horizon if spec else 0)
    if steps / control_hz > stale_s:
        _log.warning(
            "%d steps of a chunk at %g Hz rest on one observation for longer than the robot's stale_s=%g: the gate "
            "stops the last of them",
            steps,
            control_hz,
            stale_s,
        )
