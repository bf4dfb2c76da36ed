"""What a bus of servos is to a robot, whoever made them: positions, goals, and how each servo is."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from vla.core.errors import ConfigError, RobotError

Answer = TypeVar("Answer")
REPLY_S = 0.008
"""How long an answer may be late before it counts as none. The SDKs wait 34 and 50 ms, for adapters that hold bytes
back for 16; set their latency timer to 1 ms."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """How one servo is."""

    torque: bool
    temperature_c: float
    hot_c: float
    """Where it switches itself off."""
    voltage: float
    alarms: tuple[str, ...] = ()
    """What it says is wrong, in words."""
    watchdog: bool = False
    """Whether it has stopped because the bus was silent for too long."""


@runtime_checkable
class Bus(Protocol):
    """Servos by their ids.

    Whoever answers nothing is missing in what is returned; a `RobotError` says that the line itself is gone.
    """

    watchdog_s: tuple[float, float] | None
    """Shortest and longest silence that its servos can be told to stop after by themselves; None where they cannot."""

    def prepare(self, identifiers: Collection[int], *, period_s: float) -> None:
        """Let go of the motors and set the servos up for goals that come once in ``period_s``."""

    def positions(self, identifiers: Collection[int]) -> dict[int, int]:
        """Where they are, in ticks, all asked at once."""

    def position(self, identifier: int) -> int | None:
        """Where one is, asked alone."""

    def send(self, goals: Mapping[int, int]) -> None:
        """Where they shall go, in ticks, all at once; nobody answers."""

    def torque(self, identifiers: Collection[int], on: bool) -> list[int]:
        """Hold or let go; the servos that did not confirm it."""

    def health(self, identifier: int) -> Health | None:
        """How one is."""

    def offset(self, identifier: int) -> int | None:
        """Its homing offset: what it adds to, or takes from, what its encoder says."""

    def set_offset(self, identifier: int, ticks: int) -> None:
        """Write it, where it stays."""

    def watch(self, identifiers: Collection[int], seconds: float) -> list[int]:
        """Have them stop by themselves after such a silence, 0 for never; the servos that did not confirm it."""

    def close(self) -> None:
        """Close the line. May be called twice."""


class Port:
    """A vendor's port, opened so that it neither spins while it waits nor waits for long."""

    def __init__(self, kind: Any, path: str, baud: int) -> None:
        self.path = path
        self.handler = _impatient(kind)(path)
        try:
            if not self.handler.setBaudRate(baud):
                raise ConfigError(f"baud={baud}: the servos' SDK does not know this speed")
        except OSError as error:
            raise RobotError(
                f"the bus {path} cannot be opened ({_reason(error)}); is it plugged in, and is it "
                "yours to open (group dialout)?"
            ) from None
        self.handler.ser.timeout = 1e-3

    def ask(self, call: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call the SDK; a `RobotError` where the line is gone."""
        import termios

        try:
            return call(*arguments)
        except (OSError, termios.error, TypeError) as error:  # pyserial's own, and what it meets once it is closed
            raise RobotError(f"the bus {self.path} is gone ({_reason(error)}); was it unplugged?") from None
        finally:
            self.handler.is_using = False

    def drain(self) -> None:
        """Wait until nothing more comes: an answer that is late must not be taken for that of the next question."""
        for _ in range(20):
            if not self.ask(self.handler.readPort, 256):
                return

    def close(self) -> None:
        """May be called twice."""
        self.handler.closePort()


def _impatient(kind: Any) -> Any:
    class Impatient(kind):  # type: ignore[misc]  # the SDKs leave no other door
        def setPacketTimeout(self, packet_length: int) -> None:
            self.setPacketTimeoutMillis(self.tx_time_per_byte * packet_length + 1e3 * REPLY_S)

        def getCurrentTime(self) -> float:
            return time.monotonic() * 1e3

    return Impatient


def _reason(error: BaseException) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:120]
