"""Wall time of calls, each measured in turn with the others: what else runs on the machine meets all alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

Call = Callable[[], object]
_TURNS = 5


@dataclass(frozen=True, kw_only=True)
class Times:
    """Of many calls of one thing, in milliseconds."""

    p50: float
    p99: float
    """With fewer than a hundred calls, nearly the slowest."""
    spread: float
    """Between the first and the third quartile."""
    calls: int


def take_turns(calls: Mapping[str, Call], seconds: float, device: torch.device) -> dict[str, Times]:
    """Call each for about ``seconds`` in several turns; the first call of each turn, with cold caches, does not count.

    On a GPU a call ends when the device has done its work.
    """
    spent: dict[str, list[float]] = {name: [] for name in calls}
    with torch.no_grad():
        for _ in range(_TURNS):
            for name, call in calls.items():
                _milliseconds(call, device)
                until = time.perf_counter() + seconds / _TURNS
                spent[name].append(_milliseconds(call, device))
                while time.perf_counter() < until:
                    spent[name].append(_milliseconds(call, device))
    return {name: _summary(times) for name, times in spent.items()}


def _milliseconds(call: Call, device: torch.device) -> float:
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1e3 * (time.perf_counter() - began)


def _summary(times: list[float]) -> Times:
    low, middle, high, worst = np.percentile(times, [25, 50, 75, 99])
    return Times(p50=float(middle), p99=float(worst), spread=float(high - low), calls=len(times))
