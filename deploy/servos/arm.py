"""An arm on a servo bus, in units: what a lost answer, a silent servo or a hot one means, and when it is enough.

A question that got no answer is asked again. A servo that stays silent is taken to be where it was last, for
`Patience.silent_s`; the others go on. What cannot be survived makes the arm hold still and raises a `RobotError` that
names the servo and the cause.
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from vla.core.errors import RobotError
from vla.deploy.servos.bus import Bus, Health
from vla.deploy.servos.description import Description, Scale

_log = logging.getLogger(__name__)
_WARM_C = 8.0
"""How far below the temperature at which a servo switches itself off it is said that it is hot."""
_TRIES = 3
_HEALTH_S = 0.025
"""How often a servo is asked how it is, at most: each question costs the bus a millisecond."""
_AGAIN_S = 0.03
"""How often a servo that says nothing is asked again: each time the others wait for it."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How much an arm survives."""

    silent_s: float = 0.3
    """How long a servo may say nothing."""
    watchdog_s: float = 0.5
    """After such a silence on the bus servos stop by themselves, where they can; 0 switches that off."""


class Arm:
    """The joints of a description, through a bus."""

    def __init__(
        self,
        description: Description,
        bus: Bus,
        *,
        scale: Scale | None = None,
        patience: Patience | None = None,
        period_s: float,
    ) -> None:
        """Finds all servos, and makes them hold where they are; ``period_s`` is how often they will be commanded."""
        self._bus, self._scale, self._patience = bus, scale or Scale.of(description), patience or Patience()
        self._names = {joint.id: name for name, joint in description.joints.items()}
        self._ids = list(self._names)
        self.faults: Counter[str] = Counter()
        """What was survived: answers asked for again, values that are old, servos that are hot."""
        self._ticks: Float64[np.ndarray, " d"] = np.zeros(len(self._ids))
        self._silent: dict[int, float] = {}
        """Servos that say nothing, since when."""
        self._asked_s: dict[int, float] = {}
        """When each of them was asked last."""
        self._hot: set[int] = set()
        self._next, self._told_s, self._asked_health_s = 0, time.monotonic(), 0.0
        self._unwatched = list(self._ids)
        """Servos whose watchdog is not on."""
        self._closed = False
        try:
            self._find()
            bus.prepare(self._ids, period_s=period_s)
            self.hold()
        except BaseException:
            self.close(hold=False)
            raise

    def read(self) -> Float32[np.ndarray, " d"]:
        """Where all joints are, in their units."""
        speaking = [i for i in self._ids if i not in self._silent]
        found = self._bus.positions(speaking) if speaking else {}
        if len(found) < len(speaking):
            self.faults["retried"] += 1
        now_s, missing = time.monotonic(), []
        for place, identifier in enumerate(self._ids):
            ticks = found.get(identifier)
            if ticks is None and now_s - self._asked_s.get(identifier, 0.0) > _AGAIN_S:
                ticks, self._asked_s[identifier] = self._bus.position(identifier), now_s
            if ticks is None:
                missing.append(identifier)
            else:
                self._ticks[place] = ticks
        self._bear(missing, time.monotonic())
        return self._scale.to_units(self._ticks)

    def send(self, values: Float32[np.ndarray, " d"]) -> None:
        """Where all joints shall go, in their units; now and then a servo is asked how it is."""
        self._check()
        goals = np.rint(self._scale.to_ticks(values)).astype(int)
        self._bus.send(dict(zip(self._ids, goals.tolist(), strict=True)))
        self._told_s = time.monotonic()
        if self._unwatched and self._patience.watchdog_s and self._bus.watchdog_s:
            speaking = [i for i in self._unwatched if i not in self._silent]
            late = self._bus.watch(speaking, self._patience.watchdog_s)
            self._unwatched = [i for i in self._unwatched if i in self._silent or i in late]

    def hold(self) -> None:
        """Stay where it is, without a watchdog: nothing needs to be said any more."""
        self._unwatch(self._ids)
        self.read()
        self._bus.send(dict(zip(self._ids, np.rint(self._ticks).astype(int).tolist(), strict=True)))
        slack = self._ids
        for _ in range(_TRIES):
            slack = self._bus.torque(slack, True)
            if not slack:
                return
        raise RobotError(f"servo {self._name(slack[0])} does not switch its torque on; restart it")

    def _unwatch(self, identifiers: Sequence[int]) -> None:
        """Switch the watchdogs off that are on."""
        watched = [i for i in identifiers if i not in self._unwatched]
        for _ in range(_TRIES):
            watched = self._bus.watch(watched, 0.0) if watched else []
        self._unwatched = list(self._ids)

    def close(self, *, hold: bool = True) -> None:
        """Hold still, then let go of the line. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            if hold:
                self._stop()
        finally:
            self._bus.close()

    def _find(self) -> None:
        missing = [i for i in self._ids if all(self._bus.position(i) is None for _ in range(_TRIES))]
        if missing:
            raise RobotError(
                f"servo {self._named(missing)} does not answer; check power, cables, ids and the bus's speed"
            )

    def _bear(self, missing: Sequence[int], now_s: float) -> None:
        """These servos said nothing, also when they were asked alone; all others did."""
        new = [i for i in missing if i not in self._silent]
        back = [i for i in self._silent if i not in missing]
        for identifier in back:
            del self._silent[identifier]
        self._asked_s = {i: when for i, when in self._asked_s.items() if i in missing}
        self._silent |= dict.fromkeys(new, now_s)
        if missing:
            self.faults["silent"] += len(missing)
        if new:
            _log.warning("servo %s does not answer; its last position is taken", self._named(new))
        if back:
            _log.warning("servo %s answers again", self._named(back))
        for identifier, since_s in self._silent.items():
            if now_s - since_s > self._patience.silent_s:
                why = f"has not answered for {now_s - since_s:.2f} s"
                if len(self._silent) == len(self._ids):
                    why += ", nor has any other; check the adapter and the power of the bus"
                else:
                    why += "; check its cable and its power"
                raise self._give_up(identifier, why)

    def _check(self) -> None:
        """Ask the next servo how it is; all of them after a silence in which the watchdogs may have stopped them."""
        now_s = time.monotonic()
        silence_s = now_s - self._told_s
        watched = len(self._unwatched) < len(self._ids)
        alarmed = watched and silence_s > self._patience.watchdog_s
        if not alarmed and now_s - self._asked_health_s < _HEALTH_S:
            return
        self._asked_health_s = now_s
        for _ in self._ids if alarmed else (0,):
            identifier = self._ids[self._next]
            self._next = (self._next + 1) % len(self._ids)
            if identifier in self._silent:
                continue
            health = self._bus.health(identifier)
            if health is not None:
                self._judge(identifier, health)
            else:
                self.faults["retried"] += 1

    def _judge(self, identifier: int, health: Health) -> None:
        if health.alarms:
            why = f"has switched itself off: {', '.join(health.alarms)}"
            raise self._give_up(identifier, f"{why}; free the arm, let it cool, then restart it")
        if health.watchdog:
            raise self._give_up(
                identifier,
                f"has stopped by itself: its watchdog heard nothing for {self._patience.watchdog_s:g} s; find out what "
                "kept the program from talking to it",
            )
        if not health.torque:
            raise self._give_up(identifier, "has no torque any more: it has restarted; check its power supply")
        if health.temperature_c > health.hot_c - _WARM_C:
            self.faults["hot"] += 1
            if identifier not in self._hot:
                self._hot.add(identifier)
                _log.warning(
                    "servo %s is at %.0f °C and switches itself off at %.0f",
                    self._name(identifier),
                    health.temperature_c,
                    health.hot_c,
                )
        else:
            self._hot.discard(identifier)

    def _give_up(self, identifier: int, why: str) -> RobotError:
        self._stop(spare=(identifier,))
        return RobotError(f"servo {self._name(identifier)} {why}")

    def _stop(self, spare: Sequence[int] = ()) -> None:
        """Make all that still hear stay where they are."""
        able = [i for i in self._ids if i not in self._silent and i not in spare]
        try:
            self._unwatch(able)
            places = {i: self._bus.position(i) for i in able}
            self._bus.send({i: ticks for i, ticks in places.items() if ticks is not None})
        except RobotError as error:
            _log.warning("the arm cannot be told to hold: %s", error)

    def _named(self, identifiers: Sequence[int]) -> str:
        return ", ".join(map(self._name, identifiers))

    def _name(self, identifier: int) -> str:
        return f"{self._names[identifier]} (id {identifier})"
