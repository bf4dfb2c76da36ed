import contextlib

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from openpi_client import msgpack_numpy

from vla.core.errors import ServeError
from vla.deploy.wire import DTYPES, MAX_DIM, MAX_ITEMS, pack, unpack

steady = settings(deadline=None, derandomize=True)
arrays = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
)
scalars = st.sampled_from(sorted(DTYPES)).flatmap(lambda dtype: hnp.arrays(dtype, ())).map(lambda array: array[()])
plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
values = st.recursive(
    plain | arrays | scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def assert_same(a, b):
    if isinstance(a, np.generic) and isinstance(a, float):
        a = float(a)  # np.float64 is a Python float, and msgpack packs it as one
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    else:
        np.testing.assert_equal(a, b)


@steady
@given(values)
def test_round_trip(value):
    assert_same(value, unpack(pack(value)))


@steady
@given(values)
def test_bytes_equal_those_of_openpi(value):
    assert pack(value) == msgpack_numpy.packb(value)


@steady
@given(values)
def test_openpi_reads_ours_and_we_read_theirs(value):
    assert_same(value, msgpack_numpy.unpackb(pack(value)))
    assert_same(value, unpack(msgpack_numpy.packb(value)))


def test_keys_are_binary():
    assert b"\xc4\x0b__ndarray__" in pack(np.zeros(2))
    assert b"\xc4\x0e__npgeneric__" not in pack(np.zeros(2))
    assert b"\xc4\x0d__npgeneric__" in pack(np.float32(1))


def test_arrays_are_writable_copies():
    array = unpack(pack(np.arange(3)))
    array[0] = 5
    assert array.flags.owndata or array.base is not None
    assert array.tolist() == [5, 1, 2]


def test_an_array_that_is_not_contiguous_is_sent_row_by_row():
    transposed = np.arange(6, dtype=np.float32).reshape(2, 3).T
    np.testing.assert_array_equal(unpack(pack(transposed)), transposed)


def array_map(**changes):
    message = {b"__ndarray__": True, b"data": bytes(8), b"dtype": "<f4", b"shape": [2]}
    for key, value in changes.items():
        message[key.encode()] = value
    return msgpack.packb({"state": message})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (array_map(dtype="|O"), r"dtype: expected one of .*, got '\|O'"),
        (array_map(dtype="O"), "dtype"),
        (array_map(dtype=">f4"), "dtype"),
        (array_map(dtype="<c8"), "dtype"),
        (array_map(dtype="<U2"), "dtype"),
        (array_map(dtype=[["a", "<f4"]]), "dtype.*got list"),
        (array_map(dtype=b"<f4"), "dtype.*got bytes"),
        (array_map(data=bytes(7)), r"expected 8 bytes for shape \(2,\) of <f4, got 7"),
        (array_map(data=bytes(12)), "expected 8 bytes"),
        (array_map(data="12345678"), "expected bytes, got str"),
        (array_map(shape=[1 << 40]), f"sizes from 0 to {MAX_DIM}"),
        (array_map(shape=[MAX_DIM] * 5), "expected 5070602400912917605986812821504 bytes"),
        (array_map(shape=[0, MAX_DIM + 1], data=b""), "sizes"),
        (array_map(shape=[-2]), "sizes"),
        (array_map(shape=[1] * 6), "at most 5 dimensions, got 6"),
        (array_map(shape=[2.0]), "list of integers"),
        (array_map(shape=[True]), "list of integers"),
        (array_map(shape=2), "list of integers"),
        (array_map(extra=1), "5 keys"),
        (array_map(dtype="|b1", data=b"\x00\x02"), "bytes 0 or 1"),
        (msgpack.packb({b"__ndarray__": True}), "1 keys"),
        (msgpack.packb({b"__npgeneric__": True, b"data": 1, b"dtype": "|O"}), "dtype"),
        (msgpack.packb({b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"}), "expected float, got str"),
        (msgpack.packb({b"__npgeneric__": True, b"data": 256, b"dtype": "|u1"}), "in its range, got 256"),
        (msgpack.packb({b"__npgeneric__": True, b"data": [], b"dtype": "|b1"}), "expected bool, got list"),
        (msgpack.packb({b"__npgeneric__": True}), "1 keys"),
        (b"", "got 0 bytes"),
        (b"\xc1", "got 1 bytes"),
        (b"\x93\x01", "got 2 bytes"),
        (b"\x01\x01", "ExtraData|extra data"),
        (b"\xdd\xff\xff\xff\xff", "got 5 bytes"),
        (b"\xdf\xff\xff\xff\xff", "got 5 bytes"),
        (b"\xc6\xff\xff\xff\xff", "got 5 bytes"),
        (b"\xa2\xff\xfe", "got 3 bytes"),
        (b"\x91" * 100_000 + b"\x01", "got 100001 bytes"),
        (b"\x81\x91\x01\x01", "got 4 bytes"),
        (b"\xc7\x01\x05x", "got 4 bytes"),
        (b"\xd6\xff\x00\x00\x00\x00", "got 6 bytes"),
        (b"\xc7\x00\x05", "extension types, got one with code 5"),
        (msgpack.packb([0] * (MAX_ITEMS + 1)), "exceeds max_array_len"),
        (msgpack.packb([{}] * MAX_ITEMS), "elements in all"),
        (msgpack.packb([[]] * MAX_ITEMS), "elements in all"),
        (msgpack.packb([0] * MAX_ITEMS), "elements in all"),
    ],
)
def test_hostile_messages_are_refused(data, says):
    with pytest.raises(ServeError, match=says):
        unpack(data)


@steady
@given(st.binary(max_size=200))
def test_garbage_gives_a_value_or_a_serve_error(data):
    with contextlib.suppress(ServeError):
        unpack(data)


@steady
@given(values, st.data())
def test_damaged_messages_give_a_value_or_a_serve_error(value, data):
    packed = bytearray(pack(value))
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ServeError):
        unpack(bytes(packed))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.array([None]), r"dtype \|O"),
        (np.zeros(2, np.complex64), "dtype <c8"),
        (np.zeros(2, ">f4"), "dtype >f4"),
        (np.array(["a"]), "dtype <U1"),
        (np.float16(1), "dtype <f2"),
        (np.zeros((1,) * 6), "at most 5 dimensions"),
        (np.zeros(MAX_DIM + 1, np.uint8), "sizes"),
        (object(), "type object"),
        ({1, 2}, "type set"),
        (2**64, "cannot encode"),
    ],
)
def test_values_that_the_receiver_would_refuse_are_not_sent(value, says):
    with pytest.raises(ServeError, match=says):
        pack({"value": value})


def test_endless_nesting_is_not_sent():
    value: list = []
    value.append(value)
    with pytest.raises(ServeError, match="recursion"):
        pack(value)
