"""Faults on demand: what can go wrong on a bus, said in a line each and timed.

    KIND[:ID][=VALUE][@START][+DURATION]      silent:3@5s+0.2s    drop=0.01    slow:2=20ms@1s    unplug@8s+2s

Times are seconds with ``s`` or milliseconds with ``ms``, from when the emulator starts or is told. Without a duration a
fault stays, or happens once; without an id it is all servos'.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.deploy.emulators.bus import Bus, Servo
from vla.deploy.emulators.line import Line
from vla.deploy.emulators.motor import AMBIENT_C

_FAULT = re.compile(
    r"(?P<kind>[a-z]+)(?::(?P<id>\d+))?(?:=(?P<value>[\d.]+)(?P<unit>ms|s)?)?"
    r"(?:@(?P<start>[\d.]+)(?P<start_unit>ms|s))?(?:\+(?P<last>[\d.]+)(?P<last_unit>ms|s))?"
)
_SECONDS = {"ms": 1e-3, "s": 1.0, None: 1.0}
_HEATING_C_S = 20.0

OnServo = Callable[[Servo, float, bool], None]
"""Given a servo, the value and whether the fault begins or ends."""
OnLine = Callable[[Line, float, bool], None]


def _silent(servo: Servo, value: float, begins: bool) -> None:
    servo.wiring.silent = begins


def _slow(servo: Servo, value: float, begins: bool) -> None:
    servo.wiring.slow_s = value if begins else 0.0


def _overload(servo: Servo, value: float, begins: bool) -> None:
    if begins:
        servo.overload()


def _overheat(servo: Servo, value: float, begins: bool) -> None:
    servo.motor.heating_c_s = (value or _HEATING_C_S) if begins else 0.0
    if not begins:  # nobody waits minutes for it
        servo.motor.temperature_c = AMBIENT_C


def _watchdog(servo: Servo, value: float, begins: bool) -> None:
    if begins:
        servo.trip()


def _brownout(servo: Servo, value: float, begins: bool) -> None:
    if begins:
        servo.restart()


def _drop(line: Line, value: float, begins: bool) -> None:
    line.drops = value if begins else 0.0


def _corrupt(line: Line, value: float, begins: bool) -> None:
    line.flips = value if begins else 0.0


def _unplug(line: Line, value: float, begins: bool) -> None:
    if begins:
        line.unplug()
    else:
        line.plug()


SERVO_FAULTS: dict[str, OnServo] = {
    "silent": _silent,
    "slow": _slow,
    "overload": _overload,
    "overheat": _overheat,
    "watchdog": _watchdog,
    "brownout": _brownout,
}
LINE_FAULTS: dict[str, OnLine] = {"drop": _drop, "corrupt": _corrupt, "unplug": _unplug}
_NEEDS_VALUE = {"slow": "slow:3=20ms", "drop": "drop=0.01", "corrupt": "corrupt=0.01"}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One of them."""

    kind: str
    id: int | None = None
    value: float = 0.0
    start_s: float = 0.0
    lasts_s: float = math.inf

    def happen(self, bus: Bus, line: Line, *, begins: bool) -> None:
        """Begin or end."""
        if self.kind in LINE_FAULTS:
            LINE_FAULTS[self.kind](line, self.value, begins)
            return
        for identifier, servo in bus.servos.items():
            if self.id in (None, identifier):
                SERVO_FAULTS[self.kind](servo, self.value, begins)


def read_fault(text: str, bus: Bus) -> Fault:
    """The fault that a line says, of this bus; a `ConfigError` says how it is written."""
    match = _FAULT.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"fault {text!r} must be KIND[:ID][=VALUE][@START][+DURATION], as in silent:3@5s+0.2s")
    kind, said = match["kind"], match["value"]
    lookup("fault", kind, {**SERVO_FAULTS, **LINE_FAULTS})
    if kind in _NEEDS_VALUE and said is None:
        raise ConfigError(f"fault {text!r} needs a value, as in {_NEEDS_VALUE[kind]}")
    if kind == "watchdog" and not bus.has_watchdog:
        raise ConfigError(f"fault {text!r}: these servos have no watchdog")
    try:
        value = float(said or 0.0) * _SECONDS[match["unit"]]
        start_s = float(match["start"] or 0.0) * _SECONDS[match["start_unit"]]
        lasts_s = math.inf if match["last"] is None else float(match["last"]) * _SECONDS[match["last_unit"]]
    except ValueError:
        raise ConfigError(f"fault {text!r} has a number that is none") from None
    if kind in ("drop", "corrupt") and not 0 <= value <= 1:
        raise ConfigError(f"fault {text!r}: the share of bytes must be from 0 to 1")
    identifier = None if match["id"] is None else int(match["id"])
    if identifier is not None and kind in LINE_FAULTS:
        raise ConfigError(f"fault {text!r}: {kind} is of the whole line; leave the id out")
    if identifier is not None and identifier not in bus.servos:
        raise ConfigError(f"fault {text!r}: no servo has this id; there are {', '.join(map(str, bus.servos))}")
    return Fault(kind=kind, id=identifier, value=value, start_s=start_s, lasts_s=lasts_s)


class Schedule:
    """What is to happen when."""

    def __init__(self, bus: Bus, line: Line) -> None:
        self._bus, self._line = bus, line
        self._plan: list[tuple[float, bool, Fault]] = []

    @property
    def due_s(self) -> float | None:
        """When the next thing happens (monotonic)."""
        return self._plan[0][0] if self._plan else None

    def add(self, fault: Fault, now_s: float) -> None:
        """Plan a fault from now on."""
        begins_s = now_s + fault.start_s
        self._plan.append((begins_s, True, fault))
        if math.isfinite(fault.lasts_s):
            self._plan.append((begins_s + fault.lasts_s, False, fault))
        self._plan.sort(key=lambda item: item[0])

    def clear(self) -> None:
        """End all faults that can end, and forget those that are planned."""
        self._plan.clear()
        for kind in LINE_FAULTS:
            Fault(kind=kind).happen(self._bus, self._line, begins=False)
        for kind in SERVO_FAULTS:
            Fault(kind=kind).happen(self._bus, self._line, begins=False)

    def run(self, now_s: float) -> list[str]:
        """Let happen what is due; a line for each."""
        said = []
        while self._plan and self._plan[0][0] <= now_s:
            _, begins, fault = self._plan.pop(0)
            fault.happen(self._bus, self._line, begins=begins)
            of = "" if fault.id is None else f" of servo {fault.id}"
            said.append(f"{fault.kind}{of} {'begins' if begins else 'ends'}")
        return said
