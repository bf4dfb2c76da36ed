"""Faults are said in a line, happen when they are due, and end."""

import math

import pytest

from tests.deploy.emulators.wire import Bench
from vla.core.errors import ConfigError, UnknownNameError
from vla.deploy.emulators.dynamixel import DynamixelBus
from vla.deploy.emulators.dynamixel_servo import DynamixelServo
from vla.deploy.emulators.faults import Fault, Schedule, read_fault
from vla.deploy.emulators.feetech import FeetechBus
from vla.deploy.emulators.feetech_servo import FeetechServo
from vla.deploy.emulators.line import Line


@pytest.fixture
def bench() -> Bench:
    return Bench(DynamixelBus, DynamixelServo)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("silent:3@5s", Fault(kind="silent", id=3, start_s=5.0)),
        ("silent", Fault(kind="silent")),
        ("slow:2=20ms@1s+500ms", Fault(kind="slow", id=2, value=0.02, start_s=1.0, lasts_s=0.5)),
        ("drop=0.01", Fault(kind="drop", value=0.01)),
        ("unplug@8s+2s", Fault(kind="unplug", start_s=8.0, lasts_s=2.0)),
    ],
)
def test_what_a_line_says(bench: Bench, text: str, fault: Fault) -> None:
    assert read_fault(text, bench.bus) == fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("silent:9", "no servo has this id; there are 1, 2, 3"),
        ("silent@soon", r"must be KIND\[:ID\]"),
        ("slow:1", "needs a value, as in slow:3=20ms"),
        ("drop:1=0.1", "is of the whole line"),
        ("corrupt=2", "from 0 to 1"),
        ("silent@1.2.3s", "a number that is none"),
    ],
)
def test_what_cannot_be_is_refused(bench: Bench, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_fault(text, bench.bus)


def test_unknown_faults_and_missing_watchdogs_are_named(bench: Bench) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'silent'"):
        read_fault("silence:1", bench.bus)
    with pytest.raises(ConfigError, match="these servos have no watchdog"):
        read_fault("watchdog:1", Bench(FeetechBus, FeetechServo).bus)


def test_they_begin_and_end_when_they_are_due(bench: Bench) -> None:
    line = Line(None, baud=1_000_000)
    schedule = Schedule(bench.bus, line)
    schedule.add(read_fault("silent:2@2s+1s", bench.bus), 100.0)
    schedule.add(read_fault("drop=0.5@1s", bench.bus), 100.0)
    wiring = bench.servos[2].wiring
    assert schedule.due_s == 101.0
    assert schedule.run(101.5) == ["drop begins"]
    assert (line.drops, wiring.silent) == (0.5, False)
    assert schedule.run(102.0) == ["silent of servo 2 begins"]
    assert wiring.silent
    assert schedule.run(104.0) == ["silent of servo 2 ends"]
    assert not wiring.silent
    assert math.isclose(line.drops, 0.5)
    schedule.clear()
    assert (line.drops, schedule.due_s) == (0.0, None)
    line.unplug()


@pytest.mark.parametrize("kind", ["overload", "overheat", "watchdog", "brownout", "slow=5ms"])
def test_each_reaches_only_its_servo(bench: Bench, kind: str) -> None:
    line = Line(None, baud=1_000_000)
    kind, equals, value = kind.partition("=")
    for servo in bench.servos.values():
        servo.memory["Torque Enable"], servo.motor.torque = 1, True
    read_fault(f"{kind}:2{equals}{value}", bench.bus).happen(bench.bus, line, begins=True)

    def state(identifier: int) -> tuple[object, ...]:
        servo = bench.servos[identifier]
        return servo.motor.torque, servo.memory["Bus Watchdog"], servo.motor.heating_c_s, servo.wiring.slow_s

    assert state(1) == state(3) == (True, 0, 0.0, 0.0)
    assert state(2) != state(1)
    line.unplug()
