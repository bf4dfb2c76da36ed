"""Feetech's bus on the wire, which is Dynamixel protocol 1: frames and their checksum.

    FF FF | id | length | instruction, or the error in an answer | parameters | checksum

The length counts all that follows it.
"""

from vla.deploy.emulators.frames import Frame, Frames

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


def new_frames() -> Frames:
    """What finds them in a stream."""
    return Frames(HEADER, _size_of, _parse)


def _size_of(data: bytes) -> int | None:
    if len(data) < 4:
        return None
    # A third FF: the header begins one byte later.
    return 0 if data[2] == 0xFF or not 2 <= data[3] <= _MOST_LENGTH else 4 + data[3]


def _parse(data: bytes) -> Frame:
    return Frame(data[2], data[4], data[5:-1], len(data), checksum(data[2:-1]) == data[-1])
