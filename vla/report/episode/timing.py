"""The time axis of an episode, and where its steps do not come at an even pace."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

GAP = 1.5
"""Typical intervals from which the pause between two steps counts as a gap."""
_EVEN = 0.02
"""Share of an interval that it may deviate and still be called even, and a rate and still be the contract's."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """When the steps of one episode were."""

    time_s: Float64[np.ndarray, " t"]
    """Since step 0, strictly rising."""
    end_s: float
    """When the last step ends."""
    typical_ns: int
    """Between two steps: the median."""
    gaps: Int64[np.ndarray, " k"]
    """Each step that a gap follows."""
    gap_s: Float64[np.ndarray, " k"]
    uneven: bool
    findings: tuple[str, ...]


def measure(time_ns: Int64[np.ndarray, " t"], control_hz: float) -> Timing:
    """The times of an episode; if they do not rise, steps at ``control_hz`` stand for them, and a finding says so."""
    nominal_ns = round(1e9 / control_hz)
    interval_ns = np.diff(time_ns)
    backwards = np.flatnonzero(interval_ns <= 0)
    if len(backwards):
        finding = (
            f"Times do not rise after step {backwards[0]} ({len(backwards)} such places): "
            f"the axis counts steps at {control_hz:g} Hz instead."
        )
        even = np.arange(len(time_ns)) / control_hz
        return _timing(even, nominal_ns, np.zeros(0, np.int64), uneven=True, findings=(finding,))
    typical_ns = int(np.median(interval_ns)) if len(interval_ns) else nominal_ns
    gaps = np.flatnonzero(interval_ns > GAP * typical_ns)
    uneven = bool((np.abs(interval_ns - typical_ns) > _EVEN * typical_ns).any())
    findings: tuple[str, ...] = ()
    if abs(typical_ns - nominal_ns) > _EVEN * nominal_ns:
        findings = (f"Steps come at {1e9 / typical_ns:.3g} Hz (median); the contract says {control_hz:g} Hz.",)
    return _timing((time_ns - time_ns[0]) / 1e9, typical_ns, gaps, uneven=uneven, findings=findings)


def runs(flags: Bool[np.ndarray, " t"]) -> list[tuple[int, int]]:
    """The first and last step of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(first), int(after) - 1) for first, after in edges.reshape(-1, 2)]


def _timing(
    time_s: Float64[np.ndarray, " t"],
    typical_ns: int,
    gaps: Int64[np.ndarray, " k"],
    *,
    uneven: bool,
    findings: tuple[str, ...],
) -> Timing:
    return Timing(
        time_s=time_s,
        end_s=float(time_s[-1]) + typical_ns / 1e9,
        typical_ns=typical_ns,
        gaps=gaps,
        gap_s=np.diff(time_s)[gaps],
        uneven=uneven,
        findings=findings,
    )
