"""Our frames of protocol 2.0 are those of the vendor's SDK, and none is taken for another."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.deploy.emulators.wire import Wire
from vla.deploy.emulators.dynamixel_frames import crc16, fast_status, new_frames, pack, status, stuffed, unstuffed

sdk = pytest.importorskip("dynamixel_sdk", reason="needs the extra robot")
PACKETS = sdk.PacketHandler(2.0)
# Bytes of which headers are made come often.
BODY = st.lists(st.sampled_from([0xFF, 0xFF, 0xFD, 0xFD, 0x00, 0x55, 0x07]), max_size=40).map(bytes) | st.binary(
    max_size=40
)


@given(st.binary(max_size=300))
def test_the_checksum_is_theirs(data: bytes) -> None:
    assert crc16(data) == PACKETS.updateCRC(0, data, len(data))


@given(st.integers(0, 252), st.integers(0, 500), BODY.filter(len))
def test_a_write_of_theirs_is_a_frame_of_ours(identifier: int, address: int, data: bytes) -> None:
    """The SDK (4.1.0) forgets to stuff what it sends, which servos survive unless it looks as if it were stuffed."""
    wire = Wire()
    PACKETS.writeTxOnly(wire, identifier, address, len(data), list(data))
    said = address.to_bytes(2, "little") + data
    assert wire.sent == pack(identifier, 0x03, said) or stuffed(said) != said
    assume(b"\xff\xff\xfd\xfd" not in said)
    (frame,) = new_frames().feed(wire.sent)
    assert (frame.identifier, frame.instruction, frame.parameters, frame.intact) == (identifier, 0x03, said, True)
    assert frame.size == len(wire.sent)


@given(st.integers(0, 252), st.integers(0, 127), BODY.filter(len))
def test_a_status_of_ours_is_read_by_theirs(identifier: int, error: int, data: bytes) -> None:
    wire = Wire(lambda asked: status(identifier, error, data))
    assert PACKETS.readTxRx(wire, identifier, 0, len(data)) == (list(data), sdk.COMM_SUCCESS, error)


@given(
    st.lists(
        st.tuples(st.integers(0, 252), st.binary(min_size=10, max_size=10)),
        min_size=1,
        max_size=8,
        unique_by=lambda p: p[0],
    )
)
def test_a_fast_status_of_ours_is_read_by_theirs(parts: list[tuple[int, bytes]]) -> None:
    pieces = fast_status([(identifier, 0, data) for identifier, data in parts], expected=14 * len(parts))
    wire = Wire(lambda asked: b"".join(pieces))
    group = sdk.GroupSyncRead(wire, PACKETS, 126, 10)
    for identifier, _ in parts:
        group.addParam(identifier)
    assert group.fastSyncRead() == sdk.COMM_SUCCESS
    assert {identifier: bytes(group.data_dict[identifier]) for identifier, _ in parts} == dict(parts)


@given(BODY)
def test_what_is_stuffed_shows_no_header(data: bytes) -> None:
    assert unstuffed(stuffed(data)) == data
    assert b"\xff\xff\xfd\x00" not in stuffed(data)


@given(st.lists(BODY, min_size=1, max_size=4), st.lists(st.integers(1, 9), min_size=1), st.binary(max_size=5))
def test_frames_are_found_however_the_bytes_come(bodies: list[bytes], sizes: list[int], noise: bytes) -> None:
    noise = noise.replace(b"\xff", b"")
    stream, frames, found = b"".join(noise + pack(7, 0x03, body) for body in bodies), new_frames(), []
    while stream:
        size = sizes[len(stream) % len(sizes)]
        found += frames.feed(stream[:size])
        stream = stream[size:]
    assert [frame.parameters for frame in found] == bodies


@given(BODY, st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_is_seen(body: bytes, place: int, bit: int) -> None:
    frame = bytearray(pack(7, 0x03, body))
    frame[place % len(frame)] ^= 1 << bit
    assert not any(found.intact for found in new_frames().feed(bytes(frame)))


def test_a_frame_that_was_begun_is_forgotten() -> None:
    frames = new_frames()
    frames.feed(pack(1, 0x03, bytes(20))[:12])
    frames.clear()
    assert [frame.identifier for frame in frames.feed(pack(2, 0x01))] == [2]
