"""A Feetech STS3215 servo: its memory table, and what its electronics do with it.

Numbers with a sign have it in a bit of its own. The memory from 5 to 39 survives a loss of power if it was written
while the lock (55) was open; otherwise it holds until then. Left out: wheel and step modes, several turns, gains.
"""

from vla.deploy.emulators.bus import Wiring
from vla.deploy.emulators.motor import Motor, timed
from vla.deploy.emulators.registers import Memory, Register, constant, kept, shown

OVERHEATING, OVERLOAD = 0x04, 0x20
"""Bits of the error that each answer carries."""
BAUDS = (1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400)
TICKS = 4096
MIDDLE = 128
"""Written to torque: where it is now is the middle from now on."""
_MOST_SPEED = 3400.0
"""Ticks a second that the motor reaches at 7.4 V."""
_ACCELERATION = 100.0
"""Ticks a second squared in a unit of acceleration."""
_BOOTS_S = 0.3

TABLE: tuple[Register, ...] = (
    constant("Firmware Major", 0, 1, 3),
    constant("Firmware Minor", 1, 1, 10),
    constant("Model", 3, 2, 777),
    kept("ID", 5, 1, 1, 0, 253),
    kept("Baud Rate", 6, 1, 0, 0, 7),
    kept("Return Delay", 7, 1, 250, 0, 254),
    kept("Response Level", 8, 1, 1, 0, 1),
    kept("Min Position", 9, 2, 0, 0, 4095),
    kept("Max Position", 11, 2, 4095, 0, 4095),
    kept("Max Temperature", 13, 1, 70, 0, 100),
    kept("Max Voltage", 14, 1, 80, 0, 254),
    kept("Min Voltage", 15, 1, 40, 0, 254),
    kept("Max Torque", 16, 2, 1000, 0, 1000),
    kept("Phase", 18, 1, 12, 0, 254),
    kept("Unloading", 19, 1, 44, 0, 254),
    kept("LED Alarm", 20, 1, 47, 0, 254),
    kept("P", 21, 1, 32, 0, 254),
    kept("D", 22, 1, 32, 0, 254),
    kept("I", 23, 1, 0, 0, 254),
    kept("Startup Force", 24, 2, 16, 0, 1000),
    kept("CW Dead Zone", 26, 1, 1, 0, 32),
    kept("CCW Dead Zone", 27, 1, 1, 0, 32),
    kept("Protection Current", 28, 2, 500, 0, 511),
    kept("Resolution", 30, 1, 1, 1, 3),
    kept("Offset", 31, 2, 0, 0, 0xFFF),
    kept("Mode", 33, 1, 0, 0, 0),
    kept("Protective Torque", 34, 1, 20, 0, 100),
    kept("Protection Time", 35, 1, 200, 0, 254),
    kept("Overload Torque", 36, 1, 80, 0, 100),
    Register("Torque", 40, 1, 0, 0, MIDDLE),
    Register("Acceleration", 41, 1, 0, 0, 254),
    Register("Goal Position", 42, 2, 0, 0, 0xFFFF),
    Register("Goal Time", 44, 2, 0, 0, 1000),
    Register("Goal Speed", 46, 2, 0, 0, 0xFFFF),
    Register("Torque Limit", 48, 2, 1000, 0, 1000),
    Register("Lock", 55, 1, 1, 0, 1),
    shown("Present Position", 56, 2),
    shown("Present Speed", 58, 2),
    shown("Present Load", 60, 2),
    shown("Present Voltage", 62, 1, 74),
    shown("Present Temperature", 63, 1),
    shown("Status", 65, 1),
    shown("Moving", 66, 1),
    shown("Present Current", 69, 2),
)


def signed(value: int, bit: int) -> int:
    """A number whose sign is that bit."""
    size = value & (1 << bit) - 1
    return -size if value & 1 << bit else size


def unsigned(value: int, bit: int) -> int:
    """What `signed` reads."""
    return min(abs(value), (1 << bit) - 1) | (1 << bit if value < 0 else 0)


class FeetechServo:
    """One servo: ``identifier`` on the bus, with ``motor`` on its shaft."""

    def __init__(self, identifier: int, motor: Motor, *, baud: int) -> None:
        self.motor, self.wiring = motor, Wiring()
        self.memory = Memory(TABLE)
        self.memory["ID"], self.memory["Baud Rate"] = identifier, BAUDS.index(baud)
        self._saved = {register.name: self.memory[register.name] for register in self.memory.registers(kept=True)}
        self.registered: tuple[int, bytes] | None = None
        """Address and data of a write that waits for an action."""
        self._away_s = 0.0
        self.reset()

    @property
    def baud(self) -> int:
        """At which speed it listens."""
        return BAUDS[self.memory["Baud Rate"]]

    @property
    def listens(self) -> bool:
        """Whether it hears anything now."""
        return not self.wiring.silent and self._away_s <= 0

    @property
    def error(self) -> int:
        """What every answer of it begins with."""
        return self.memory["Status"]

    @property
    def wait_s(self) -> float:
        """Between hearing and answering."""
        return self.memory["Return Delay"] * 2e-6 + self.wiring.slow_s

    def read(self, address: int, length: int) -> bytes:
        """What is in these bytes now."""
        self._show()
        return self.memory.read(address, length)

    def write(self, address: int, data: bytes) -> None:
        """Write what of it can be written, brought inside of its range; servos of this kind refuse nothing."""
        end = address + len(data)
        for register in TABLE:
            if register.is_writable and address <= register.address and register.address + register.size <= end:
                start = register.address - address
                value = register.decode(data[start : start + register.size])
                self._take(register, min(max(value, register.low), register.high))
        if address <= 46 and end > 42:  # position, or the speed behind it: one write is one order
            self._aim()

    def step(self, dt_s: float) -> None:
        """Watch the temperature."""
        self._away_s -= dt_s
        if self.motor.temperature_c >= self.memory["Max Temperature"]:
            self._protect(OVERHEATING)

    def overload(self) -> None:
        """See `vla.deploy.emulators.bus.Servo`."""
        self._protect(OVERLOAD)

    def trip(self) -> None:
        """See `vla.deploy.emulators.bus.Servo`: these servos have no watchdog."""

    def restart(self) -> None:
        """See `vla.deploy.emulators.bus.Servo`."""
        self.motor.torque = False
        self.memory.set_initial(self.memory.registers(kept=False))
        for name, value in self._saved.items():
            self.memory[name] = value
        self.registered, self.motor.share, self._away_s = None, 1.0, _BOOTS_S
        self.reset()

    def reset(self) -> None:
        """See `vla.deploy.emulators.bus.Servo`."""
        self.motor.hold()
        self.memory["Goal Position"] = unsigned(self._shown(self.motor.position), 15)

    def _take(self, register: Register, value: int) -> None:
        name = register.name
        if name == "Torque" and value == MIDDLE:
            middle = round(self.motor.position) - TICKS // 2
            self.memory["Offset"] = self._saved["Offset"] = unsigned(middle, 11)
            return
        self.memory[name] = value
        if register.kept and not self.memory["Lock"]:
            self._saved[name] = value
        if name == "Torque":
            self.motor.torque = bool(value)
            self.motor.hold()
            if not value:
                self.memory["Status"] = 0
            self._aim()
        if name in ("Torque", "Torque Limit"):
            self.motor.share = self.memory["Torque Limit"] / 1000

    def _aim(self) -> None:
        """Set out for the goal, if there is torque to do so."""
        if not self.motor.torque:
            return
        memory = self.memory
        goal = min(max(signed(memory["Goal Position"], 15), memory["Min Position"]), memory["Max Position"])
        target = float(goal + signed(memory["Offset"], 11))
        speed = float(min(signed(memory["Goal Speed"], 15) or _MOST_SPEED, _MOST_SPEED))
        way = target - self.motor.target
        self.motor.aim(target, *timed(way, abs(speed), memory["Acceleration"] * _ACCELERATION))

    def _protect(self, cause: int) -> None:
        """Say what is wrong; hold weakly under overload, let go of a hot motor, if the servo is set to do so."""
        self.memory["Status"] |= cause
        if not self.memory["Unloading"] & cause:
            return
        if cause == OVERLOAD:
            self.motor.share = self.memory["Protective Torque"] / 100
        else:
            self.memory["Torque"] = 0
            self.motor.torque = False

    def _shown(self, position: float) -> int:
        return round(position) - signed(self.memory["Offset"], 11)

    def _show(self) -> None:
        """Bring what can only be read up to date."""
        memory, motor = self.memory, self.motor
        memory["Present Position"] = unsigned(self._shown(motor.position), 15)
        memory["Present Speed"] = unsigned(round(motor.velocity), 15)
        memory["Present Load"] = unsigned(round(1000 * motor.effort), 10)
        memory["Present Current"] = unsigned(round(400 * motor.effort), 15)
        memory["Present Temperature"] = round(motor.temperature_c)
        memory["Moving"] = int(not motor.arrives)
