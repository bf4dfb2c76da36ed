"""Dynamixel protocol 2.0 on the wire: frames with their stuffing and checksum.

    FF FF FD 00 | id | length, 2 bytes | instruction | parameters | checksum, 2 bytes

The length counts all that follows it. ``FF FF FD`` is written ``FF FF FD FD`` wherever it stands behind the length.
https://emanual.robotis.com/docs/en/dxl/protocol2/
"""

from vla.deploy.emulators.frames import Frame, Frames

HEADER = b"\xff\xff\xfd\x00"
BROADCAST = 0xFE
STATUS = 0x55
_MOST = 1024
"""Bytes of a frame that servos take."""


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        crc = value << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x8005 if crc & 0x8000 else crc << 1
        table.append(crc & 0xFFFF)
    return table


_CRC = _crc_table()


def crc16(data: bytes) -> int:
    """The checksum: polynomial 0x8005, from zero, highest bit first."""
    crc = 0
    for byte in data:
        crc = ((crc << 8) ^ _CRC[(crc >> 8) ^ byte]) & 0xFFFF
    return crc


def stuffed(body: bytes) -> bytes:
    """``body`` in which no header can be seen."""
    return body.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")


def unstuffed(body: bytes) -> bytes:
    """What `stuffed` was given."""
    return body.replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")


def pack(identifier: int, instruction: int, parameters: bytes = b"") -> bytes:
    """One frame."""
    body = stuffed(bytes([instruction]) + parameters)
    return _sealed(HEADER + bytes([identifier]) + (len(body) + 2).to_bytes(2, "little") + body)


def status(identifier: int, error: int, parameters: bytes = b"") -> bytes:
    """A servo's answer."""
    return pack(identifier, STATUS, bytes([error]) + parameters)


def fast_status(parts: list[tuple[int, int, bytes]], expected: int) -> list[bytes]:
    """What each servo adds to the one answer to a fast read: (id, error, data) of those that speak, in their order.

    ``expected`` are the bytes of all that were asked, so that an answer which some do not add to stays short. Each
    part ends with the checksum of all that was said so far; nothing is stuffed.
    """
    said = HEADER + bytes([BROADCAST]) + (1 + expected).to_bytes(2, "little") + bytes([STATUS])
    pieces, begun = [], b""
    for identifier, error, data in parts:
        piece = (said if not begun else b"") + bytes([error, identifier]) + data
        begun += piece
        piece += crc16(begun).to_bytes(2, "little")
        begun += piece[-2:]
        pieces.append(piece)
    return pieces


def _sealed(frame: bytes) -> bytes:
    return frame + crc16(frame).to_bytes(2, "little")


def new_frames() -> Frames:
    """What finds them in a stream."""
    return Frames(HEADER, _size_of, _parse)


def _size_of(data: bytes) -> int | None:
    if len(data) < 7:
        return None
    size = 7 + int.from_bytes(data[5:7], "little")
    return size if 10 <= size <= _MOST else 0


def _parse(data: bytes) -> Frame:
    body = unstuffed(data[7:-2])
    intact = crc16(data[:-2]) == int.from_bytes(data[-2:], "little")
    return Frame(data[4], body[0], body[1:], len(data), intact)
