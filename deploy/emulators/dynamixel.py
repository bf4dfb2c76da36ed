"""A bus of Dynamixel servos: who answers what to an instruction of protocol 2.0, and when."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from vla.deploy.emulators.bus import Reply
from vla.deploy.emulators.dynamixel_frames import BROADCAST, fast_status, new_frames, status
from vla.deploy.emulators.dynamixel_servo import ACCESS, DAMAGED, FAILED, LENGTH, UNKNOWN, DynamixelServo
from vla.deploy.emulators.frames import Frame

PING, READ, WRITE, REG_WRITE, ACTION, FACTORY_RESET, REBOOT = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x08
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ = 0x82, 0x83, 0x8A
BULK_READ, BULK_WRITE, FAST_BULK_READ = 0x92, 0x93, 0x9A
_MOST_READ = 1000
Asked = list[tuple[int, int, int]]
"""Of each servo that is asked: id, address, bytes."""


class DynamixelBus:
    """Implements `vla.deploy.emulators.bus.Bus`."""

    has_watchdog = True

    def __init__(self, servos: Mapping[int, DynamixelServo]) -> None:
        self.servos = dict(sorted(servos.items()))
        self.counts: Counter[str] = Counter()
        self._frames = new_frames()
        self._alone: dict[int, Callable[[DynamixelServo, bytes], tuple[int, bytes]]] = {
            PING: _ping,
            READ: _read,
            WRITE: _write,
            REG_WRITE: _reg_write,
            ACTION: _action,
            REBOOT: _reboot,
            FACTORY_RESET: _factory_reset,
        }

    def hear(self, data: bytes, baud: int) -> list[Reply]:
        """See `vla.deploy.emulators.bus.Bus`."""
        return [reply for frame in self._frames.feed(data) for reply in self._answers(frame, baud)]

    def quiet(self) -> None:
        """See `vla.deploy.emulators.bus.Bus`."""
        self._frames.clear()

    def _answers(self, frame: Frame, baud: int) -> Iterator[Reply]:
        listening = {i: servo for i, servo in self._present().items() if servo.baud == baud}
        self.counts["frames"] += 1
        if not frame.intact:
            self.counts["damaged"] += 1
            servo = listening.get(frame.identifier)
            if servo is not None:
                yield Reply(status(frame.identifier, DAMAGED | servo.error), servo.wait_s)
            return
        for servo in listening.values():
            servo.heard()
        if frame.identifier != BROADCAST:
            if frame.identifier in listening:
                yield from self._one(frame.identifier, listening[frame.identifier], frame)
        elif frame.instruction in (SYNC_READ, BULK_READ):
            yield from _in_turn(listening, _asked(frame))
        elif frame.instruction in (FAST_SYNC_READ, FAST_BULK_READ):
            yield from _together(listening, _asked(frame))
        elif frame.instruction == PING:
            for identifier, servo in listening.items():
                yield Reply(status(identifier, servo.error, _ping(servo, b"")[1]), servo.wait_s)
        else:
            self._told(listening, frame)

    def _present(self) -> dict[int, DynamixelServo]:
        """By the id that they have now."""
        return {servo.memory["ID"]: servo for servo in self.servos.values() if servo.listens}

    def _one(self, identifier: int, servo: DynamixelServo, frame: Frame) -> Iterator[Reply]:
        """An instruction to one servo alone."""
        handle = self._alone.get(frame.instruction)
        level, alert, wait_s = servo.memory["Status Return Level"], servo.error, servo.wait_s
        error, data = (UNKNOWN, b"") if handle is None else handle(servo, frame.parameters)
        if frame.instruction == PING or level == 2 or (level == 1 and frame.instruction == READ):
            yield Reply(status(identifier, error | alert, data), wait_s)

    def _told(self, listening: Mapping[int, DynamixelServo], frame: Frame) -> None:
        """An instruction to several that none of them answers."""
        for identifier, instruction, parameters in _orders(frame):
            servo = listening.get(identifier)
            if servo is not None and instruction in self._alone:
                error, _ = self._alone[instruction](servo, parameters)
                self.counts["refused"] += error != 0


def _orders(frame: Frame) -> Iterator[tuple[int, int, bytes]]:
    """What each servo is told: its id, an instruction for it alone, and its parameters."""
    said = frame.parameters
    if frame.instruction == SYNC_WRITE and len(said) >= 4:
        size = int.from_bytes(said[2:4], "little") + 1
        for start in range(4, len(said) - size + 1, size):
            yield said[start], WRITE, said[:2] + said[start + 1 : start + size]
    elif frame.instruction == BULK_WRITE:
        while len(said) >= 5:
            size = 5 + int.from_bytes(said[3:5], "little")
            yield said[0], WRITE, said[1:3] + said[5:size]
            said = said[size:]
    elif frame.instruction in (WRITE, REG_WRITE, ACTION, REBOOT):
        for identifier in range(BROADCAST):
            yield identifier, frame.instruction, said


def _asked(frame: Frame) -> Asked:
    said = frame.parameters
    if frame.instruction in (SYNC_READ, FAST_SYNC_READ):
        address, length = int.from_bytes(said[:2], "little"), int.from_bytes(said[2:4], "little")
        return [(identifier, address, length) for identifier in said[4:]]
    parts = [said[start : start + 5] for start in range(0, len(said) - 4, 5)]
    return [(p[0], int.from_bytes(p[1:3], "little"), int.from_bytes(p[3:5], "little")) for p in parts]


def _in_turn(listening: Mapping[int, DynamixelServo], asked: Asked) -> Iterator[Reply]:
    """Each answers when the one before it has: behind one that does not, nobody does."""
    for identifier, address, length in asked:
        servo = listening.get(identifier)
        if servo is None:
            return
        error, data = _bounded(servo, address, length)
        yield Reply(status(identifier, error | servo.error, data), servo.wait_s)


def _together(listening: Mapping[int, DynamixelServo], asked: Asked) -> Iterator[Reply]:
    """One answer to which each adds its part when the one before it has."""
    parts: list[tuple[int, int, bytes]] = []
    waits: list[float] = []
    for identifier, address, length in asked:
        servo = listening.get(identifier)
        if servo is None:
            break
        error, data = _bounded(servo, address, length)
        parts.append((identifier, error | servo.error, data.ljust(length, b"\0")))
        waits.append(servo.wait_s if not waits else servo.wiring.slow_s)
    pieces = fast_status(parts, expected=sum(4 + length for _, _, length in asked))
    yield from (Reply(piece, wait_s) for piece, wait_s in zip(pieces, waits, strict=True))


def _bounded(servo: DynamixelServo, address: int, length: int) -> tuple[int, bytes]:
    if not 0 < length <= _MOST_READ:
        return LENGTH, b""
    if address + length > _MOST_READ:
        return ACCESS, b""
    return 0, servo.read(address, length)


def _ping(servo: DynamixelServo, said: bytes) -> tuple[int, bytes]:
    memory = servo.memory
    return 0, memory["Model Number"].to_bytes(2, "little") + bytes([memory["Firmware Version"]])


def _read(servo: DynamixelServo, said: bytes) -> tuple[int, bytes]:
    if len(said) != 4:
        return LENGTH, b""
    return _bounded(servo, int.from_bytes(said[:2], "little"), int.from_bytes(said[2:], "little"))


def _write(servo: DynamixelServo, said: bytes) -> tuple[int, bytes]:
    if len(said) < 3:
        return LENGTH, b""
    return servo.write(int.from_bytes(said[:2], "little"), said[2:]), b""


def _reg_write(servo: DynamixelServo, said: bytes) -> tuple[int, bytes]:
    if len(said) < 3:
        return LENGTH, b""
    servo.registered = int.from_bytes(said[:2], "little"), said[2:]
    return 0, b""


def _action(servo: DynamixelServo, said: bytes) -> tuple[int, bytes]:
    if servo.registered is None:
        return FAILED, b""
    (address, data), servo.registered = servo.registered, None
    return servo.write(address, data), b""


def _reboot(servo: DynamixelServo, said: bytes) -> tuple[int, bytes]:
    servo.restart()
    return 0, b""


def _factory_reset(servo: DynamixelServo, said: bytes) -> tuple[int, bytes]:
    return (0 if len(said) == 1 and servo.factory_reset(said[0]) else FAILED), b""
