"""Success against how much stands between the simulator and the policy: late, lost and noisy signals."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from vla.core.lookup import lookup
from vla.evaluation.comparison import Row
from vla.evaluation.trials import Condition

AXES: dict[str, tuple[float, ...]] = {
    "observation_latency_steps": (1, 2, 3, 4, 6, 8),
    "action_latency_steps": (1, 2, 3, 4, 6, 8),
    "dropped_frames": (0.1, 0.25, 0.5, 0.75, 0.9),
    "image_noise": (5.0, 10.0, 20.0, 40.0),
    "state_noise": (0.005, 0.01, 0.02, 0.05),
    "action_noise": (0.001, 0.0025, 0.005, 0.01, 0.02),
}
"""Fields of `vla.envs.perturbations.PerturbationConfig`, and the levels that are tried beside none."""


def robustness_conditions(conditions: Iterable[Condition], axes: Sequence[str] = ()) -> Iterator[Condition]:
    """Each condition undisturbed, and at each level of each axis; all axes unless some are named."""
    for condition in conditions:
        yield condition
        for axis in axes or AXES:
            for level in lookup("axis of robustness", axis, AXES):
                yield replace(condition, perturbation={axis: level})


def robustness_curves(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each condition and axis the success rates by level, the undisturbed one first, all on the same seeds."""
    curves = []
    for plain in (row for row in rows if not row["perturbation"]):
        for axis in AXES:
            levels = {
                row["perturbation"][axis]: row["success"]
                for row in rows
                if list(row["perturbation"]) == [axis] and _same(row, plain)
            }
            if levels:
                points = [{"level": level, "success": levels[level]} for level in sorted(levels)]
                base = {name: plain[name] for name in ("env", "policy", "split", "language")}
                curves.append(base | {"axis": axis, "points": [{"level": 0, "success": plain["success"]}, *points]})
    return curves


def _same(a: Row, b: Row) -> bool:
    return all(a[name] == b[name] for name in ("env", "policy", "split", "language"))
