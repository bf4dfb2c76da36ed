"""Feetech STS servos through the vendor's SDK (``ftservo-python-sdk``), by sync reads and writes; no watchdog."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from vla.core.errors import RobotError
from vla.core.machine.packages import needed_packages
from vla.deploy.servos.bus import Health, Port

_RETURN_DELAY, _HOT, _OFFSET, _MODE = 7, 13, 31, 33
_TORQUE, _ACCELERATION, _LOCK, _POSITION, _VOLTAGE, _TEMPERATURE, _STATUS = 40, 41, 55, 56, 62, 63, 65
_OFFSET_BIT, _POSITION_BIT = 11, 15
_ORDER_BYTES = 7
"""Of acceleration, position, time and speed, which are written together."""
_MOST_SPEED = 3400
_CATCHES_UP = 1.1
"""A little faster than needed, so that what came late is made up for."""
_ALARMS = {0x01: "input voltage", 0x02: "encoder", 0x04: "overheating", 0x08: "overcurrent", 0x20: "overload"}


class FeetechBus:
    """Implements `vla.deploy.servos.bus.Bus`."""

    watchdog_s: tuple[float, float] | None = None

    def __init__(self, path: str, *, baud: int = 1_000_000) -> None:
        with needed_packages("Feetech servos", extra="robot"):
            import scservo_sdk as sdk
        if not hasattr(sdk, "sms_sts"):
            raise RobotError(
                "scservo_sdk is that of feetech-servo-sdk, which has the same module name and not the same content: "
                "pip uninstall feetech-servo-sdk, then pip install --force-reinstall ftservo-python-sdk"
            )
        self._sdk = sdk
        self._port = Port(sdk.PortHandler, path, baud)
        self._packets = sdk.sms_sts(self._port.handler)
        self._writer = sdk.GroupSyncWrite(self._packets, _ACCELERATION, _ORDER_BYTES)
        self._group: Any = None
        self._period_s = 0.0
        self._goals: dict[int, int] = {}
        self._hot_c: dict[int, float] = {}

    def prepare(self, identifiers: Collection[int], *, period_s: float) -> None:
        """See `vla.deploy.servos.bus.Bus`: each goal comes with the speed that reaches it within the period."""
        self._period_s = period_s
        for identifier in identifiers:
            self._require(identifier, _TORQUE, 0)
            for address, value in ((_RETURN_DELAY, 0), (_MODE, 0)):
                found = self._block(identifier, address, 1)
                if found is None or found[0] != value:  # the EEPROM wears out
                    self._keep(identifier, address, [value])

    def positions(self, identifiers: Collection[int]) -> dict[int, int]:
        """See `vla.deploy.servos.bus.Bus`."""
        if self._group is None or list(self._group.data_dict) != list(identifiers):
            self._group = self._sdk.GroupSyncRead(self._packets, _POSITION, 2)
            for identifier in identifiers:
                self._group.addParam(identifier)
        group = self._group
        for identifier in identifiers:
            group.data_dict[identifier] = []  # or what was read before would stand for what was not read now
        self._port.ask(group.txRxPacket)
        found = {i: group.getData(i, _POSITION, 2) for i in identifiers if group.isAvailable(i, _POSITION, 2)[0]}
        if len(found) < len(identifiers):
            self._port.drain()
        return {i: signed(ticks, _POSITION_BIT) for i, ticks in found.items()}

    def position(self, identifier: int) -> int | None:
        """See `vla.deploy.servos.bus.Bus`."""
        found = self._block(identifier, _POSITION, 2)
        return None if found is None else signed(int.from_bytes(found, "little"), _POSITION_BIT)

    def send(self, goals: Mapping[int, int]) -> None:
        """See `vla.deploy.servos.bus.Bus`."""
        self._writer.clearParam()
        for identifier, goal in goals.items():
            way = abs(goal - self._goals.get(identifier, goal))
            speed = min(_MOST_SPEED, math.ceil(_CATCHES_UP * way / self._period_s) or 1)  # 0 would be no limit
            order = [0, *_word(unsigned(goal, _POSITION_BIT)), 0, 0, *_word(speed)]
            self._writer.addParam(identifier, order)
            self._goals[identifier] = goal
        self._port.ask(self._writer.txPacket)

    def torque(self, identifiers: Collection[int], on: bool) -> list[int]:
        """See `vla.deploy.servos.bus.Bus`."""
        return [identifier for identifier in identifiers if not self._write(identifier, _TORQUE, [int(on)])]

    def health(self, identifier: int) -> Health | None:
        """See `vla.deploy.servos.bus.Bus`."""
        found = self._block(identifier, _TORQUE, _STATUS + 1 - _TORQUE)
        if found is None:
            return None
        alarms = found[_STATUS - _TORQUE]
        return Health(
            torque=bool(found[0]),
            temperature_c=float(found[_TEMPERATURE - _TORQUE]),
            hot_c=self._hot(identifier),
            voltage=found[_VOLTAGE - _TORQUE] / 10,
            alarms=tuple(name for bit, name in _ALARMS.items() if alarms & bit),
        )

    def offset(self, identifier: int) -> int | None:
        """See `vla.deploy.servos.bus.Bus`."""
        found = self._block(identifier, _OFFSET, 2)
        return None if found is None else signed(int.from_bytes(found, "little"), _OFFSET_BIT)

    def set_offset(self, identifier: int, ticks: int) -> None:
        """See `vla.deploy.servos.bus.Bus`."""
        self._keep(identifier, _OFFSET, _word(unsigned(ticks, _OFFSET_BIT)))

    def watch(self, identifiers: Collection[int], seconds: float) -> list[int]:
        """See `vla.deploy.servos.bus.Bus`: there is none, and so nobody to confirm it."""
        return list(identifiers)

    def close(self) -> None:
        """See `vla.deploy.servos.bus.Bus`."""
        self._port.close()

    def _hot(self, identifier: int) -> float:
        """Where it switches itself off, asked once."""
        if identifier not in self._hot_c and (found := self._block(identifier, _HOT, 1)) is not None:
            self._hot_c[identifier] = float(found[0])
        return self._hot_c.get(identifier, math.inf)

    def _block(self, identifier: int, address: int, length: int) -> bytes | None:
        """Bytes of its memory; an answer of another length is a late one to an earlier question."""
        packets = self._packets
        result = self._port.ask(packets.readTx, identifier, address, length)
        while result == self._sdk.COMM_SUCCESS:
            packet, result = self._port.ask(packets.rxPacket)
            if result == self._sdk.COMM_SUCCESS and packet[2] == identifier and packet[3] == length + 2:
                return bytes(packet[5 : 5 + length])
        self._port.drain()
        return None

    def _write(self, identifier: int, address: int, data: list[int]) -> bool:
        """Whether it was confirmed."""
        result, _ = self._port.ask(self._packets.writeTxRx, identifier, address, len(data), data)
        if result != self._sdk.COMM_SUCCESS:
            self._port.drain()
        return bool(result == self._sdk.COMM_SUCCESS)

    def _require(self, identifier: int, address: int, value: int) -> None:
        if not any(self._write(identifier, address, [value]) for _ in range(3)):
            raise RobotError(f"servo {identifier}: {value} cannot be written to its register {address}: no answer")

    def _keep(self, identifier: int, address: int, data: list[int]) -> None:
        """Write what shall survive a loss of power."""
        self._require(identifier, _LOCK, 0)
        if not any(self._write(identifier, address, data) for _ in range(3)):
            raise RobotError(f"servo {identifier}: {data} cannot be written to its register {address}: no answer")
        self._require(identifier, _LOCK, 1)


def signed(value: int, bit: int) -> int:
    """A number whose sign is that bit."""
    size = value & (1 << bit) - 1
    return -size if value & 1 << bit else size


def unsigned(value: int, bit: int) -> int:
    """What `signed` reads."""
    return abs(value) | (1 << bit if value < 0 else 0)


def _word(value: int) -> list[int]:
    return [value & 0xFF, value >> 8]
