"""The control table of a servo: named registers in a memory of bytes, little-endian."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Register:
    """One of them."""

    name: str
    address: int
    size: int
    initial: int
    low: int
    high: int
    """What may be written, both included; a register with ``high`` below ``low`` can only be read."""
    kept: bool = False
    """Whether it survives a loss of power (EEPROM)."""

    @property
    def is_writable(self) -> bool:
        """Whether anything can be written to it."""
        return self.low <= self.high

    @property
    def is_signed(self) -> bool:
        """Whether it is a two's complement."""
        return self.low < 0

    def decode(self, data: bytes | bytearray) -> int:
        """The number in its bytes."""
        return int.from_bytes(data, "little", signed=self.is_signed)


def kept(name: str, address: int, size: int, initial: int, low: int, high: int) -> Register:
    """One of the EEPROM."""
    return Register(name, address, size, initial, low, high, kept=True)


def constant(name: str, address: int, size: int, initial: int) -> Register:
    """One of the EEPROM that can only be read."""
    return Register(name, address, size, initial, 0, -1, kept=True)


def shown(name: str, address: int, size: int, initial: int = 0) -> Register:
    """One that only the servo itself changes."""
    return Register(name, address, size, initial, 0, -1)


class Memory:
    """The registers of one servo and what is in them."""

    def __init__(self, registers: Sequence[Register]) -> None:
        self._registers = {register.name: register for register in registers}
        self._starts = {register.address: register for register in registers}
        self.bytes = bytearray(max(r.address + r.size for r in registers))
        self.set_initial(registers)

    def __getitem__(self, name: str) -> int:
        register = self._registers[name]
        return register.decode(self.bytes[register.address : register.address + register.size])

    def __setitem__(self, name: str, value: int) -> None:
        register = self._registers[name]
        mask = (1 << 8 * register.size) - 1
        self.bytes[register.address : register.address + register.size] = (value & mask).to_bytes(
            register.size, "little"
        )

    def registers(self, *, kept: bool) -> list[Register]:
        """Those that survive a loss of power, or the others."""
        return [register for register in self._registers.values() if register.kept == kept]

    def set_initial(self, registers: Iterable[Register]) -> None:
        """Put them to what they are from the factory."""
        for register in registers:
            self[register.name] = register.initial

    def covered(self, address: int, length: int) -> list[Register] | None:
        """The registers that these bytes are, one after the other; None where they are not whole ones."""
        found, end = [], address + length
        while address < end:
            register = self._starts.get(address)
            if register is None or address + register.size > end:
                return None
            found.append(register)
            address += register.size
        return found

    def read(self, address: int, length: int) -> bytes:
        """Bytes as they are; zeros where there are no registers."""
        return bytes(self.bytes[address : address + length]).ljust(length, b"\0")
