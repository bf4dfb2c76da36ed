"""A bus of Feetech STS servos: who answers what to an instruction, and when."""

from collections import Counter
from collections.abc import Iterator, Mapping

from vla.deploy.emulators.bus import Reply
from vla.deploy.emulators.feetech_frames import BROADCAST, new_frames, pack
from vla.deploy.emulators.feetech_servo import FeetechServo
from vla.deploy.emulators.frames import Frame

PING, READ, WRITE, REG_WRITE, ACTION, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x04, 0x05, 0x82, 0x83


class FeetechBus:
    """Implements `vla.deploy.emulators.bus.Bus`."""

    has_watchdog = False

    def __init__(self, servos: Mapping[int, FeetechServo]) -> None:
        self.servos = dict(sorted(servos.items()))
        self.counts: Counter[str] = Counter()
        self._frames = new_frames()

    def hear(self, data: bytes, baud: int) -> list[Reply]:
        """See `vla.deploy.emulators.bus.Bus`."""
        return [reply for frame in self._frames.feed(data) for reply in self._answers(frame, baud)]

    def quiet(self) -> None:
        """See `vla.deploy.emulators.bus.Bus`."""
        self._frames.clear()

    def _answers(self, frame: Frame, baud: int) -> Iterator[Reply]:
        present = {servo.memory["ID"]: servo for servo in self.servos.values() if servo.listens}
        listening = {identifier: servo for identifier, servo in present.items() if servo.baud == baud}
        self.counts["frames"] += 1
        if not frame.intact:
            self.counts["damaged"] += 1  # nobody answers what nobody understood
        elif frame.identifier != BROADCAST:
            if frame.identifier in listening:
                yield from _one(frame.identifier, listening[frame.identifier], frame)
        elif frame.instruction == SYNC_READ:
            yield from _in_turn(listening, frame.parameters)
        elif frame.instruction == PING:
            yield from (Reply(pack(i, servo.error), servo.wait_s) for i, servo in listening.items())
        else:
            for identifier, instruction, parameters in _orders(frame):
                if identifier in listening:
                    _do(listening[identifier], instruction, parameters)


def _one(identifier: int, servo: FeetechServo, frame: Frame) -> Iterator[Reply]:
    """An instruction to one servo alone."""
    said, wait_s = frame.parameters, servo.wait_s
    if frame.instruction == READ and len(said) == 2:
        yield Reply(pack(identifier, servo.error, servo.read(said[0], said[1])), wait_s)
    elif frame.instruction == PING:
        yield Reply(pack(identifier, servo.error), wait_s)
    elif frame.instruction in (WRITE, REG_WRITE, ACTION):
        level = servo.memory["Response Level"]
        _do(servo, frame.instruction, said)
        if level:
            yield Reply(pack(identifier, servo.error), wait_s)


def _do(servo: FeetechServo, instruction: int, said: bytes) -> None:
    if instruction == WRITE and len(said) >= 2:
        servo.write(said[0], said[1:])
    elif instruction == REG_WRITE and len(said) >= 2:
        servo.registered = said[0], said[1:]
    elif instruction == ACTION and servo.registered is not None:
        (address, data), servo.registered = servo.registered, None
        servo.write(address, data)


def _in_turn(listening: Mapping[int, FeetechServo], said: bytes) -> Iterator[Reply]:
    """Each answers in its turn; one that does not is passed over."""
    if len(said) >= 2:
        for identifier in said[2:]:
            servo = listening.get(identifier)
            if servo is not None:
                yield Reply(pack(identifier, servo.error, servo.read(said[0], said[1])), servo.wait_s)


def _orders(frame: Frame) -> Iterator[tuple[int, int, bytes]]:
    """What each servo is told: its id, an instruction for it alone, and its parameters."""
    said = frame.parameters
    if frame.instruction == SYNC_WRITE and len(said) >= 2:
        size = said[1] + 1
        for start in range(2, len(said) - size + 1, size):
            yield said[start], WRITE, said[:1] + said[start + 1 : start + size]
    elif frame.instruction in (WRITE, REG_WRITE, ACTION):
        for identifier in range(BROADCAST):
            yield identifier, frame.instruction, said
