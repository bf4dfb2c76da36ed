"""Our frames of Feetech's bus are those of the vendor's SDK, and none is taken for another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.deploy.emulators.wire import Wire
from vla.deploy.emulators.feetech_frames import new_frames, pack

sdk = pytest.importorskip("scservo_sdk", reason="needs the extra robot")
BODY = st.lists(st.sampled_from([0xFF, 0xFF, 0x02, 0x00]), max_size=30).map(bytes) | st.binary(max_size=30)


@given(st.integers(0, 252), st.integers(0, 200), BODY.filter(len))
def test_a_write_of_theirs_is_a_frame_of_ours(identifier: int, address: int, data: bytes) -> None:
    wire = Wire()
    sdk.sms_sts(wire).writeTxOnly(identifier, address, len(data), list(data))
    assert wire.sent == pack(identifier, 0x03, bytes([address]) + data)
    (frame,) = new_frames().feed(wire.sent)
    assert (frame.identifier, frame.parameters, frame.intact) == (identifier, bytes([address]) + data, True)


@given(st.integers(0, 252), st.integers(0, 127), BODY.filter(len))
def test_a_status_of_ours_is_read_by_theirs(identifier: int, error: int, data: bytes) -> None:
    wire = Wire(lambda asked: pack(identifier, error, data))
    assert sdk.sms_sts(wire).readTxRx(identifier, 0, len(data)) == (list(data), sdk.COMM_SUCCESS, error)


@given(st.lists(BODY, min_size=1, max_size=4), st.lists(st.integers(1, 9), min_size=1))
def test_frames_are_found_however_the_bytes_come(bodies: list[bytes], sizes: list[int]) -> None:
    stream, frames, found = b"".join(pack(7, 0x03, body) for body in bodies), new_frames(), []
    while stream:
        size = sizes[len(stream) % len(sizes)]
        found += frames.feed(stream[:size])
        stream = stream[size:]
    assert [frame.parameters for frame in found] == bodies


@given(BODY, st.integers(2, 10_000), st.integers(0, 7))
def test_a_flipped_bit_of_what_is_said_is_seen(body: bytes, place: int, bit: int) -> None:
    """Behind the length: one there may make a shorter frame of it, which a sum of eight bits cannot always tell."""
    frame = bytearray(pack(7, 0x03, body))
    frame[4 + place % (len(frame) - 4)] ^= 1 << bit
    assert not any(found.intact for found in new_frames().feed(bytes(frame)))


def test_a_third_ff_belongs_to_the_noise() -> None:
    (frame,) = new_frames().feed(b"\xff" + pack(3, 0x01))
    assert (frame.identifier, frame.intact) == (3, True)
