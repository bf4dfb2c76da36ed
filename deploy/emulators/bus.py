"""What every emulated bus is to the loop that runs it, whichever protocol is spoken on it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vla.deploy.emulators.motor import Motor


@dataclass(frozen=True)
class Reply:
    """Bytes that a servo sends, and how long it waits before the first."""

    data: bytes
    wait_s: float = 0.0


@dataclass
class Wiring:
    """What is wrong with the wires and the patience of one servo."""

    silent: bool = False
    """It neither hears nor speaks; it goes on with what it was told last."""
    slow_s: float = 0.0
    """How much later than it should it answers."""


@runtime_checkable
class Servo(Protocol):
    """One servo on a bus, and the faults that it can be given."""

    motor: Motor
    wiring: Wiring

    def step(self, dt_s: float) -> None:
        """What its electronics do while the simulation goes on: limits, protection, watchdog."""

    def overload(self) -> None:
        """More force acts on it than it can hold: it protects itself."""

    def trip(self) -> None:
        """As if the bus had been silent for too long; nothing where there is no watchdog."""

    def restart(self) -> None:
        """Lose power for a moment: what is not kept is forgotten, torque too."""

    def reset(self) -> None:
        """Somebody has put it where it is now: it is to stay there."""


@runtime_checkable
class Bus(Protocol):
    """Servos on one line."""

    has_watchdog: bool
    counts: Counter[str]
    """What was heard and said."""

    @property
    def servos(self) -> Mapping[int, Servo]:
        """By the id that they began with."""

    def hear(self, data: bytes, baud: int) -> list[Reply]:
        """What is answered to these bytes, which came at that speed."""

    def quiet(self) -> None:
        """Nothing was heard for longer than a frame may pause: what was begun is forgotten."""
