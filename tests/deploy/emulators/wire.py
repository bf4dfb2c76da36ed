"""In place of a serial port, for the vendors' SDKs: what they write is heard by an emulated bus, at once."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from vla.deploy.emulators.bus import Bus
from vla.deploy.emulators.motor import Motor
from vla.deploy.worlds.plant import Plant, chain


class Wire:
    """What of a port the SDKs use; ``hear`` answers with the bytes that come back."""

    def __init__(self, hear: Callable[[bytes], bytes] = lambda data: b"") -> None:
        self.is_using, self.sent, self._hear, self._waiting = False, b"", hear, b""
        self.tx_time_per_byte = 0.01
        self._ends = 0.0

    def clearPort(self) -> None:
        self._waiting = b""

    def writePort(self, packet: Any) -> int:
        self.sent = bytes(packet)
        self._waiting += self._hear(self.sent)
        return len(packet)

    def readPort(self, length: int) -> bytes:
        data, self._waiting = self._waiting[:length], self._waiting[length:]
        return data

    def getBaudRate(self) -> int:
        return 1_000_000

    def setPacketTimeout(self, length: int) -> None:
        self.setPacketTimeoutMillis(2)

    def setPacketTimeoutMillis(self, milliseconds: float) -> None:
        self._ends = time.monotonic() + min(milliseconds, 2) * 1e-3

    def isPacketTimeout(self) -> bool:
        return not self._waiting and time.monotonic() > self._ends


class Bench:
    """Servos in a row on a wire, in time that passes when it is told to."""

    def __init__(
        self, bus: Callable[[dict[int, Any]], Bus], servo: Callable[..., Any], *, baud: int = 1_000_000
    ) -> None:
        self.plant: Plant
        self.plant, names = chain(3)
        self.servos = {i + 1: servo(i + 1, Motor(self.plant, i), baud=baud) for i in range(len(names))}
        self.bus, self.baud = bus(dict(self.servos)), baud
        self.wire = Wire(lambda data: b"".join(reply.data for reply in self.bus.hear(data, self.baud)))

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / self.plant.dt_s)):
            for servo in self.servos.values():
                servo.step(self.plant.dt_s)
                servo.motor.step(self.plant.dt_s)
            self.plant.step()

    def positions(self) -> np.ndarray:
        return np.array([servo.motor.position for servo in self.servos.values()])
