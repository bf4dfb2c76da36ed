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
    reaction_p50_ms: float | None
    """From an observation to the first command that rests on the next one: how late what happens now is acted on."""
    reaction_max_ms: float | None
    unsure_p50: float | None
    """How far overlapping chunks disagree, as a share of the range of the action that does most."""
    unsure_max: float | None
    ended: str
    """Why it is over."""


@dataclass
class Tally:
    """The counts of a drive that goes on."""

    counts: Counter[str] = field(default_factory=Counter)
    """Of what `Drive` counts, by the name there."""
    inference_s: list[float] = field(default_factory=list)
    reaction_s: list[float] = field(default_factory=list)
    unsure: list[float] = field(default_factory=list)

    def drive(self, rhythm: Rhythm, gated: Mapping[str, int], ended: str) -> Drive:
        """All of it."""
        names = ("steps", "inferences", "late", "starved", "wasted", "failures", "clipped", "states_clipped")
        inference, reaction, unsure = _typical(self.inference_s), _typical(self.reaction_s), _typical(self.unsure)
        return Drive(
            **{name: self.counts[name] for name in names},
            gated=dict(gated),
            rhythm=rhythm,
            inference_p50_ms=_ms(inference[0]),
            inference_max_ms=_ms(inference[1]),
            reaction_p50_ms=_ms(reaction[0]),
            reaction_max_ms=_ms(reaction[1]),
            unsure_p50=unsure[0],
            unsure_max=unsure[1],
            ended=ended,
        )


def _typical(values: list[float]) -> tuple[float | None, float | None]:
    return (float(np.median(values)), max(values)) if values else (None, None)


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
