"""Dynamixel X servos through the vendor's SDK: sync and fast sync reads, sync writes, and the bus watchdog."""

import math
import time
from collections.abc import Collection, Mapping
from typing import Any

from vla.core.errors import RobotError
from vla.core.machine.packages import needed_packages
from vla.deploy.servos.bus import Health, Port

_RETURN_DELAY, _DRIVE_MODE, _OPERATING_MODE, _HOMING_OFFSET, _HOT = 9, 10, 11, 20, 31
_TORQUE, _HARDWARE_ERROR, _WATCHDOG, _PROFILE, _GOAL = 64, 70, 98, 108, 116
_PRESENT, _PRESENT_BYTES, _POSITION, _VOLTAGE, _TEMPERATURE = 126, 10, 132, 144, 146
_POSITION_MODE, _TIME_BASED = 3, 0x04
_TICK_S = 20e-3
_ALARMS = {0x01: "input voltage", 0x04: "overheating", 0x08: "encoder", 0x10: "electrical shock", 0x20: "overload"}
_ERRORS = (
    "",
    "the result is a failure",
    "it does not know the instruction",
    "its checksum is wrong",
    "the value is out of range",
    "its length is wrong",
    "the value is beyond the limit",
    "access is refused",
)
_BOOTS_S = 0.5


class DynamixelBus:
    """Implements `vla.deploy.servos.bus.Bus`."""

    watchdog_s: tuple[float, float] | None = (_TICK_S, 127 * _TICK_S)

    def __init__(self, path: str, *, baud: int = 1_000_000, fast: bool = True) -> None:
        """``fast`` asks for one answer of all servos (fast sync read); firmware before 45 does not know it."""
        with needed_packages("Dynamixel servos", extra="robot"):
            import dynamixel_sdk as sdk
        self._sdk, self._fast = sdk, fast
        self._port = Port(sdk.PortHandler, path, baud)
        self._packets = sdk.PacketHandler(2.0)
        self._group: Any = None
        self._hot_c: dict[int, float] = {}
        self._writer = sdk.GroupSyncWrite(self._port.handler, self._packets, _GOAL, 4)

    def prepare(self, identifiers: Collection[int], *, period_s: float) -> None:
        """See `vla.deploy.servos.bus.Bus`: each goal is reached evenly within the period (time-based profile)."""
        for identifier in identifiers:
            self._require(identifier, _WATCHDOG, 1, 0)
            self._require(identifier, _TORQUE, 1, 0)
            for address, value in (
                (_RETURN_DELAY, 0),
                (_DRIVE_MODE, _TIME_BASED),
                (_OPERATING_MODE, _POSITION_MODE),
            ):
                if self._read(identifier, address, 1) != value:  # the EEPROM wears out
                    self._require(identifier, address, 1, value)
            self._require(identifier, _PROFILE, 4, 0)
            self._require(identifier, _PROFILE + 4, 4, max(1, round(1e3 * period_s)))

    def positions(self, identifiers: Collection[int]) -> dict[int, int]:
        """See `vla.deploy.servos.bus.Bus`."""
        if self._group is None or list(self._group.data_dict) != list(identifiers):
            group = self._sdk.GroupSyncRead(self._port.handler, self._packets, _PRESENT, _PRESENT_BYTES)
            for identifier in identifiers:
                group.addParam(identifier)
            self._group = group
        group = self._group
        try:
            result = self._port.ask(group.fastSyncRead if self._fast else group.txRxPacket)
        except IndexError:  # the SDK takes a late answer to something else for this one, and finds it too short
            result = self._sdk.COMM_RX_CORRUPT
        if result != self._sdk.COMM_SUCCESS:
            self._port.drain()
            return {}  # who spoke before it broke off cannot be told from who did not
        return {i: _signed(group.getData(i, _POSITION, 4), 4) for i in identifiers}

    def position(self, identifier: int) -> int | None:
        """See `vla.deploy.servos.bus.Bus`."""
        found = self._read(identifier, _POSITION, 4)
        return None if found is None else _signed(found, 4)

    def send(self, goals: Mapping[int, int]) -> None:
        """See `vla.deploy.servos.bus.Bus`."""
        self._writer.clearParam()
        for identifier, goal in goals.items():
            self._writer.addParam(identifier, list(goal.to_bytes(4, "little", signed=True)))
        self._port.ask(self._writer.txPacket)

    def torque(self, identifiers: Collection[int], on: bool) -> list[int]:
        """See `vla.deploy.servos.bus.Bus`."""
        return [identifier for identifier in identifiers if self._write(identifier, _TORQUE, 1, int(on))]

    def health(self, identifier: int) -> Health | None:
        """See `vla.deploy.servos.bus.Bus`."""
        found = self._block(identifier, _TORQUE, _TEMPERATURE + 1 - _TORQUE)
        if found is None:
            return None
        alarms = found[_HARDWARE_ERROR - _TORQUE]
        return Health(
            torque=bool(found[0]),
            temperature_c=float(found[_TEMPERATURE - _TORQUE]),
            hot_c=self._hot(identifier),
            voltage=int.from_bytes(found[_VOLTAGE - _TORQUE :][:2], "little") / 10,
            alarms=tuple(name for bit, name in _ALARMS.items() if alarms & bit),
            watchdog=found[_WATCHDOG - _TORQUE] == 0xFF,
        )

    def offset(self, identifier: int) -> int | None:
        """See `vla.deploy.servos.bus.Bus`."""
        found = self._read(identifier, _HOMING_OFFSET, 4)
        return None if found is None else _signed(found, 4)

    def set_offset(self, identifier: int, ticks: int) -> None:
        """See `vla.deploy.servos.bus.Bus`."""
        self._require(identifier, _HOMING_OFFSET, 4, ticks)

    def watch(self, identifiers: Collection[int], seconds: float) -> list[int]:
        """See `vla.deploy.servos.bus.Bus`: register 98; writing 0 also takes back a stop."""
        ticks = min(127, max(1, round(seconds / _TICK_S))) if seconds else 0
        return [i for i in identifiers if self._write(i, _WATCHDOG, 1, 0) or self._write(i, _WATCHDOG, 1, ticks)]

    def reboot(self, identifier: int) -> None:
        """Restart a servo that has switched itself off."""
        self._port.ask(self._packets.reboot, self._port.handler, identifier)
        time.sleep(_BOOTS_S)

    def close(self) -> None:
        """See `vla.deploy.servos.bus.Bus`."""
        self._port.close()

    def _hot(self, identifier: int) -> float:
        """Where it switches itself off, asked once."""
        if identifier not in self._hot_c and (found := self._read(identifier, _HOT, 1)) is not None:
            self._hot_c[identifier] = float(found)
        return self._hot_c.get(identifier, math.inf)

    def _block(self, identifier: int, address: int, length: int) -> bytes | None:
        """Bytes of its control table; an answer of another length is a late one to an earlier question."""
        port, packets = self._port.handler, self._packets
        result = self._port.ask(packets.readTx, port, identifier, address, length)
        while result == self._sdk.COMM_SUCCESS:
            packet, result = self._port.ask(packets.rxPacket, port, False)
            if (
                result == self._sdk.COMM_SUCCESS
                and packet[4] == identifier
                and packet[5] + 256 * packet[6] == length + 4
            ):
                return bytes(packet[9 : 9 + length])
        self._port.drain()
        return None

    def _read(self, identifier: int, address: int, length: int) -> int | None:
        found = self._block(identifier, address, length)
        return None if found is None else int.from_bytes(found, "little")

    def _write(self, identifier: int, address: int, length: int, value: int) -> str:
        """Why it was not written; empty if it was."""
        data = list((value & (1 << 8 * length) - 1).to_bytes(length, "little"))
        write = self._packets.writeTxRx
        result, error = self._port.ask(write, self._port.handler, identifier, address, length, data)
        if result != self._sdk.COMM_SUCCESS:
            self._port.drain()
            return "it does not answer"
        return _ERRORS[error & 0x7F] if error & 0x7F < len(_ERRORS) else f"error {error}"

    def _require(self, identifier: int, address: int, length: int, value: int) -> None:
        why = ""
        for _ in range(3):
            if not (why := self._write(identifier, address, length, value)):
                return
        raise RobotError(f"servo {identifier}: {value} cannot be written to its register {address}: {why}")


def _signed(value: int, size: int) -> int:
    return int.from_bytes(value.to_bytes(size, "little"), "little", signed=True)
