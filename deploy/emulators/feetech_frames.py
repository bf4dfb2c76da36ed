"""Feetech's bus on the wire, which is Dynamixel protocol 1: frames and their checksum.

    FF FF | id | length | instruction, or the error in an answer | parameters | checksum

The length counts all that follows it.
"""

from dataclasses import dataclass

HEADER = b"\xff\xff"
BROADCAST = 0xFE
_MOST_LENGTH = 250


def checksum(body: bytes) -> int:
    """Of all behind the header: the complement of the sum."""
    return ~sum(body) & 0xFF


def pack(identifier: int, instruction: int, parameters: bytes = b"") -> bytes:
    """One frame; a status has its error in the place of an instruction."""
    body = bytes([identifier, len(parameters) + 2, instruction]) + parameters
    return HEADER + body + bytes([checksum(body)])


@dataclass(frozen=True)
class Frame:
    """One instruction or status, as it was received."""

    identifier: int
    instruction: int
    parameters: bytes
    size: int
    """Bytes on the wire."""
    intact: bool = True
    """Whether the checksum fits."""


class Frames:
    """Finds frames in a stream of bytes that may have lost or gained some."""

    def __init__(self) -> None:
        self._bytes = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that end in ``data``."""
        self._bytes += data
        found = []
        while (frame := self._next()) is not None:
            found.append(frame)
        return found

    def clear(self) -> None:
        """Forget what was begun: the line has been silent for too long."""
        self._bytes = b""

    def _next(self) -> Frame | None:
        while True:
            start = self._bytes.find(HEADER)
            if start < 0:
                self._bytes = self._bytes[-1:]
                return None
            data = self._bytes = self._bytes[start:]
            if len(data) < 4:
                return None
            if data[2] == 0xFF or not 2 <= data[3] <= _MOST_LENGTH:  # a third FF: the header begins one byte later
                self._bytes = data[1:]
                continue
            size = 4 + data[3]
            if len(data) < size:
                return None
            self._bytes = data[size:]
            intact = checksum(data[2 : size - 1]) == data[size - 1]
            return Frame(data[2], data[4], data[5 : size - 1], size, intact)
