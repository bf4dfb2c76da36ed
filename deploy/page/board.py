"""What the operator's page shows: the last step, and what the gate did; written by the loop, read by another thread."""

import time
from collections import deque
from typing import Any

import numpy as np

from vla.core.contract import Contract
from vla.deploy.control.drive import Step

_EVENTS = 100


class Board:
    """Give it to a loop as ``on_step``: that costs it a few microseconds."""

    def __init__(self, contract: Contract, about: str) -> None:
        self._contract, self._about = contract, about
        self.step: Step | None = None
        self.steps = 0
        self.events: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_EVENTS)
        """Numbered from 1: interventions, one for each time that what is wrong changes, and notes."""
        self._numbered = 0
        self._before: tuple[str, ...] = ()

    def __call__(self, step: Step) -> None:
        """One more step."""
        self.step, self.steps = step, self.steps + 1
        reasons = tuple(step.verdict.reasons)
        if reasons and reasons != self._before:
            joints = sorted({name for names in step.verdict.reasons.values() for name in names})
            self._happened({"what": ", ".join(reasons), "where": ", ".join(joints)})
        self._before = reasons

    def note(self, text: str) -> None:
        """Something that whoever looks should know, such as how an episode ended."""
        self._happened({"what": text, "where": ""})

    def about(self) -> dict[str, Any]:
        """What does not change."""
        contract = self._contract
        return {
            "about": self._about,
            "robot": contract.robot,
            "hz": contract.control_hz,
            "cameras": [camera.name for camera in contract.cameras if camera.kind == "rgb"],
            "action": [{"name": d.name, "unit": d.unit, "low": d.low, "high": d.high} for d in contract.action],
        }

    def now(self) -> dict[str, Any] | None:
        """The last step in numbers; None before the first."""
        if (step := self.step) is None:
            return None
        states = {d.name: float(value) for d, value in zip(self._contract.state, step.seen.state, strict=True)}
        return {
            "step": self.steps,
            "mode": step.mode,
            "instruction": step.seen.instruction,
            "asked": None if step.asked is None else np.round(step.asked, 5).tolist(),
            "sent": np.round(step.verdict.command, 5).tolist(),
            "measured": [states.get(d.name) for d in self._contract.action],
            "gated": {reason: list(names) for reason, names in step.verdict.reasons.items()},
            "age_s": round(time.monotonic() - step.looked_ns / 1e9, 3),
            "late_ms": round(1e3 * step.late_s, 3),
            "inference_ms": None if step.inference_s is None else round(1e3 * step.inference_s, 2),
            "unsure": step.unsure,
        }

    def _happened(self, event: dict[str, Any]) -> None:
        self._numbered += 1
        self.events.append((self._numbered, {**event, "step": self.steps, "clock": time.strftime("%H:%M:%S")}))
