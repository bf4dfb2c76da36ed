"""Where work is done: in this process, in others beside it, or on Ray; one rule for every verb that may choose."""

import os
import sys
from typing import Literal

from vla.core.machine.ray_cluster import ADDRESS

EngineChoice = Literal["auto", "ray", "processes", "inline"]
"""``auto`` leaves it to `choose_engine`."""
_START_S = {"processes": 3.0, "ray": 12.0}
"""What starting and importing take before any work is done, measured on two busy cores."""


def choose_engine(
    engine: EngineChoice, *, shares: int, workers: int, seconds: float | None = None
) -> Literal["ray", "processes", "inline"]:
    """What was asked for; for ``auto`` what ends first.

    ``seconds`` is what the work would take in one process, as far as somebody measured it. One share, or one worker,
    has nobody to be shared with; Ray is taken only where a cluster is joined or asked for, as processes start sooner.
    """
    if engine != "auto":
        return engine
    ray = sys.modules.get("ray")
    asked = os.environ.get(ADDRESS, "").strip() not in ("", "local")
    best: Literal["ray", "processes"] = "ray" if asked or (ray and ray.is_initialized()) else "processes"
    side_by_side = min(shares, workers)
    if best == "processes" and side_by_side < 2:
        return "inline"
    if shares < 2 or (seconds is not None and seconds * (1 - 1 / max(side_by_side, 2)) < _START_S[best]):
        return "inline"
    return best
