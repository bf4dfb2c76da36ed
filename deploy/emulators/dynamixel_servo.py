"""A Dynamixel X servo (XM430-W350, protocol 2.0): its control table, and what its electronics do with it.

https://emanual.robotis.com/docs/en/dxl/x/xm430-w350/; left out: indirect addresses, modes without a position, gains.
"""

from vla.deploy.emulators.bus import Wiring
from vla.deploy.emulators.motor import Motor, timed
from vla.deploy.emulators.registers import Memory, Register, constant, kept, shown

FAILED, UNKNOWN, DAMAGED, RANGE, LENGTH, LIMIT, ACCESS = range(1, 8)
ALERT = 0x80
"""The bit of an error that says: something is wrong with this servo, see its hardware error status."""
OVERHEATING, OVERLOAD = 0x04, 0x20
"""Bits of that status."""
BAUDS = (9600, 57600, 115200, 1_000_000, 2_000_000, 3_000_000, 4_000_000)
POSITION, EXTENDED = 3, 4
"""Operating modes: within one turn, and over 256 turns each way."""
TICKS = 4096
_TICK_S, _VELOCITY = 20e-3, TICKS * 0.229 / 60
"""Unit of the watchdog; ticks a second in a unit of velocity, which is 0.229 turns a minute."""
_ACCELERATION = TICKS * 214.577 / 3600
_GOALS = ("Goal PWM", "Goal Current", "Goal Velocity", "Goal Position")
_TIME_BASED = 0x04
_BOOTS_S = 0.3
_WORD = 2**31 - 1

TABLE: tuple[Register, ...] = (
    constant("Model Number", 0, 2, 1020),
    constant("Model Information", 2, 4, 0),
    constant("Firmware Version", 6, 1, 46),
    kept("ID", 7, 1, 1, 0, 252),
    kept("Baud Rate", 8, 1, 1, 0, 6),
    kept("Return Delay Time", 9, 1, 250, 0, 254),
    kept("Drive Mode", 10, 1, 0, 0, 13),
    kept("Operating Mode", 11, 1, POSITION, POSITION, EXTENDED),
    kept("Secondary ID", 12, 1, 255, 0, 255),
    constant("Protocol Type", 13, 1, 2),
    kept("Homing Offset", 20, 4, 0, -1_044_479, 1_044_479),
    kept("Moving Threshold", 24, 4, 10, 0, 1023),
    kept("Temperature Limit", 31, 1, 80, 0, 100),
    kept("Max Voltage Limit", 32, 2, 160, 95, 160),
    kept("Min Voltage Limit", 34, 2, 95, 95, 160),
    kept("PWM Limit", 36, 2, 885, 0, 885),
    kept("Current Limit", 38, 2, 1193, 0, 1193),
    kept("Velocity Limit", 44, 4, 200, 0, 1023),
    kept("Max Position Limit", 48, 4, 4095, 0, 4095),
    kept("Min Position Limit", 52, 4, 0, 0, 4095),
    kept("Shutdown", 63, 1, 0x34, 0, 63),
    Register("Torque Enable", 64, 1, 0, 0, 1),
    Register("LED", 65, 1, 0, 0, 1),
    Register("Status Return Level", 68, 1, 2, 0, 2),
    shown("Registered Instruction", 69, 1),
    shown("Hardware Error Status", 70, 1),
    Register("Velocity I Gain", 76, 2, 1920, 0, 16383),
    Register("Velocity P Gain", 78, 2, 100, 0, 16383),
    Register("Position D Gain", 80, 2, 0, 0, 16383),
    Register("Position I Gain", 82, 2, 0, 0, 16383),
    Register("Position P Gain", 84, 2, 800, 0, 16383),
    Register("Feedforward 2nd Gain", 88, 2, 0, 0, 16383),
    Register("Feedforward 1st Gain", 90, 2, 0, 0, 16383),
    Register("Bus Watchdog", 98, 1, 0, -1, 127),
    Register("Goal PWM", 100, 2, 885, -885, 885),
    Register("Goal Current", 102, 2, 1193, -1193, 1193),
    Register("Goal Velocity", 104, 4, 200, -1023, 1023),
    Register("Profile Acceleration", 108, 4, 0, 0, 32767),
    Register("Profile Velocity", 112, 4, 0, 0, 32767),
    Register("Goal Position", 116, 4, 0, -_WORD, _WORD),
    shown("Realtime Tick", 120, 2),
    shown("Moving", 122, 1),
    shown("Moving Status", 123, 1),
    shown("Present PWM", 124, 2),
    shown("Present Current", 126, 2),
    shown("Present Velocity", 128, 4),
    shown("Present Position", 132, 4),
    shown("Velocity Trajectory", 136, 4),
    shown("Position Trajectory", 140, 4),
    shown("Present Input Voltage", 144, 2, 120),
    shown("Present Temperature", 146, 1),
)


class DynamixelServo:
    """One servo: ``identifier`` on the bus, with ``motor`` on its shaft."""

    def __init__(self, identifier: int, motor: Motor, *, baud: int) -> None:
        self.motor, self.wiring = motor, Wiring()
        self.memory = Memory(TABLE)
        self.memory["ID"], self.memory["Baud Rate"] = identifier, BAUDS.index(baud)
        self.registered: tuple[int, bytes] | None = None
        """Address and data of a write that waits for an action."""
        self._unheard_s = self._away_s = self._on_s = 0.0
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
        return ALERT if self.memory["Hardware Error Status"] else 0

    @property
    def wait_s(self) -> float:
        """Between hearing and answering."""
        return self.memory["Return Delay Time"] * 2e-6 + self.wiring.slow_s

    def heard(self) -> None:
        """An instruction passed on the line: the watchdog is content."""
        self._unheard_s = 0.0

    def read(self, address: int, length: int) -> bytes:
        """What is in these bytes now."""
        self._show()
        return self.memory.read(address, length)

    def write(self, address: int, data: bytes) -> int:
        """Write whole registers, all of them or none; the error, 0 for none."""
        registers = self.memory.covered(address, len(data))
        if registers is None:
            return ACCESS
        values, start = [], 0
        for register in registers:
            values.append(register.decode(data[start : start + register.size]))
            start += register.size
        for register, value in zip(registers, values, strict=True):
            if error := self._refused(register, value):
                return error
        for register, value in zip(registers, values, strict=True):
            self._take(register.name, value)
        return 0

    def step(self, dt_s: float) -> None:
        """Watch the bus and the temperature."""
        self._away_s -= dt_s
        self._on_s += dt_s
        if self.motor.temperature_c >= self.memory["Temperature Limit"]:
            self._shut_down(OVERHEATING)
        watchdog = self.memory["Bus Watchdog"]
        self._unheard_s = self._unheard_s + dt_s if watchdog > 0 and self.motor.torque else 0.0
        if watchdog > 0 and self._unheard_s > watchdog * _TICK_S:
            self.trip()

    def overload(self) -> None:
        """See `vla.deploy.emulators.bus.Servo`."""
        self._shut_down(OVERLOAD)

    def trip(self) -> None:
        """See `vla.deploy.emulators.bus.Servo`: it stops, and takes no goal until 0 is written to the watchdog."""
        self.memory["Bus Watchdog"] = -1
        self.motor.hold()

    def restart(self) -> None:
        """See `vla.deploy.emulators.bus.Servo`; also what a reboot does."""
        self.motor.torque = False
        self.memory.set_initial(self.memory.registers(kept=False))
        self.registered = None
        self._away_s, self._on_s = _BOOTS_S, 0.0
        self.reset()

    def reset(self) -> None:
        """See `vla.deploy.emulators.bus.Servo`."""
        self.motor.hold()
        self.memory["Goal Position"] = self._shown(self.motor.position)

    def factory_reset(self, option: int) -> bool:
        """Forget all settings (255), all but the id (1), or all but id and speed (2)."""
        spared = {255: (), 1: ("ID",), 2: ("ID", "Baud Rate")}.get(option)
        if spared is None:
            return False
        self.memory.set_initial([r for r in self.memory.registers(kept=True) if r.name not in spared])
        self.restart()
        return True

    def _refused(self, register: Register, value: int) -> int:
        """The error that says why not; 0 if it may be written."""
        memory = self.memory
        if not register.is_writable or (register.kept and self.motor.torque):
            return ACCESS
        if register.name in _GOALS and memory["Bus Watchdog"] == -1:
            return RANGE
        if not register.low <= value <= register.high or (register.name == "Bus Watchdog" and value < 0):
            return RANGE
        if register.name == "Torque Enable" and value and memory["Hardware Error Status"]:
            return FAILED
        if register.name == "Goal Position":
            low, high = memory["Min Position Limit"], memory["Max Position Limit"]
            low, high = (low, high) if memory["Operating Mode"] == POSITION else (-256 * TICKS, 256 * TICKS)
            return 0 if low <= value <= high else LIMIT
        limit = {"Goal PWM": "PWM Limit", "Goal Current": "Current Limit", "Goal Velocity": "Velocity Limit"}
        most = memory[limit[register.name]] if register.name in limit else None
        return LIMIT if most is not None and abs(value) > most else 0

    def _take(self, name: str, value: int) -> None:
        self.memory[name] = value
        if name == "Torque Enable":
            self.motor.torque = bool(value)
            self.motor.hold()
        if name == "Bus Watchdog":
            self._unheard_s = 0.0
        if name == "Goal PWM":
            self.motor.share = abs(value) / 885
        if name == "Homing Offset":
            self.memory["Goal Position"] = self._shown(self.motor.position)
        if name in ("Goal Position", "Torque Enable") and self.motor.torque:
            self._aim()

    def _aim(self) -> None:
        """Set out for the goal, as the profile says."""
        goal = float(self.memory["Goal Position"] - self.memory["Homing Offset"])
        velocity, acceleration = self.memory["Profile Velocity"], self.memory["Profile Acceleration"]
        way = goal - self.motor.target
        quickest_s = abs(way) / (self.memory["Velocity Limit"] * _VELOCITY + 1e-9)
        if self.memory["Drive Mode"] & _TIME_BASED:
            lasts_s, ramp_s = max(velocity * 1e-3, quickest_s), min(acceleration, velocity / 2) * 1e-3
        else:
            velocity = velocity or self.memory["Velocity Limit"]
            lasts_s, ramp_s = timed(way, velocity * _VELOCITY, acceleration * _ACCELERATION)
        self.motor.aim(goal, lasts_s, ramp_s)

    def _shut_down(self, cause: int) -> None:
        """Say what is wrong; let go if the servo is set to do so."""
        self.memory["Hardware Error Status"] |= cause
        if self.memory["Shutdown"] & cause:
            self.memory["Torque Enable"] = 0
            self.motor.torque = False

    def _shown(self, position: float) -> int:
        return round(position) + self.memory["Homing Offset"]

    def _show(self) -> None:
        """Bring what can only be read up to date."""
        memory, motor = self.memory, self.motor
        memory["Registered Instruction"] = self.registered is not None
        memory["Realtime Tick"] = round(self._on_s * 1000) % 32768
        memory["Moving"] = abs(motor.velocity) > memory["Moving Threshold"] * _VELOCITY
        memory["Moving Status"] = int(motor.arrives)
        memory["Present PWM"] = round(885 * motor.effort)
        memory["Present Current"] = round(1193 * motor.effort)
        memory["Present Velocity"] = round(motor.velocity / _VELOCITY)
        memory["Present Position"] = self._shown(motor.position)
        memory["Position Trajectory"] = self._shown(motor.target)
        memory["Present Temperature"] = round(motor.temperature_c)
