"""Records and messages, against Google's own encoder of protocol buffers."""

import contextlib
import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.core.errors import DatasetError
from vla.datasets.formats.rlds.tfrecord import (
    WireError,
    index_records,
    masked_crc,
    parse_example,
    peek_records,
    read_record,
)

LIST_NAMES = ("BytesList", "FloatList", "Int64List")


def _example_class(*, packed: bool) -> Any:
    """tf.train.Example as TensorFlow declares it, or with lists that are not packed, as old writers have them."""
    file = descriptor_pb2.FileDescriptorProto(name=f"example_{packed}.proto", package=f"t{packed:d}", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, kind in (
        ("BytesList", kinds.TYPE_BYTES),
        ("FloatList", kinds.TYPE_FLOAT),
        ("Int64List", kinds.TYPE_INT64),
    ):
        field = file.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=3)
        if kind != kinds.TYPE_BYTES:
            field.options.packed = packed
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(LIST_NAMES, 1):
        feature.field.add(
            name=name.lower().replace("list", "_list"),
            number=number,
            type=kinds.TYPE_MESSAGE,
            type_name=f".{file.package}.{name}",
            label=1,
            oneof_index=0,
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=1)
    entry.field.add(name="value", number=2, type=kinds.TYPE_MESSAGE, type_name=f".{file.package}.Feature", label=1)
    features.field.add(
        name="feature",
        number=1,
        type=kinds.TYPE_MESSAGE,
        type_name=f".{file.package}.Features.FeatureEntry",
        label=3,
    )
    file.message_type.add(name="Example").field.add(
        name="features", number=1, type=kinds.TYPE_MESSAGE, type_name=f".{file.package}.Features", label=1
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.Example"))


CLASSES = {packed: _example_class(packed=packed) for packed in (True, False)}


def encode(values: dict[str, Any], *, packed: bool = True) -> bytes:
    example = CLASSES[packed]()
    for name, value in values.items():
        feature = example.features.feature[name]
        if value and isinstance(value[0], bytes):
            feature.bytes_list.value.extend(value)
        elif value and isinstance(value[0], float):
            feature.float_list.value.extend(value)
        elif value:
            feature.int64_list.value.extend(value)
    return bytes(example.SerializeToString())


def write_records(path: Path, records: list[bytes]) -> None:
    def crc(data: bytes) -> int:
        value = google_crc32c.value(data)
        return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    with path.open("wb") as file:
        for record in records:
            header = struct.pack("<Q", len(record))
            file.write(header + struct.pack("<I", crc(header)) + record + struct.pack("<I", crc(record)))


LISTS = st.one_of(
    st.lists(st.binary(max_size=40), max_size=4),
    st.lists(st.floats(width=32), max_size=5),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8),
    st.lists(st.integers(0, 300), max_size=200),
)


@settings(max_examples=200, deadline=None)
@given(values=st.dictionaries(st.text(max_size=12), LISTS, max_size=6), packed=st.booleans())
def test_parses_what_protobuf_writes(values: dict[str, Any], packed: bool) -> None:
    parsed = parse_example(encode(values, packed=packed))
    assert parsed.keys() == values.keys()
    for name, expected in values.items():
        got = parsed[name]
        if not expected:
            assert len(got) == 0
        elif isinstance(expected[0], bytes):
            assert got == expected
        else:
            assert isinstance(got, np.ndarray)
            dtype = np.float32 if isinstance(expected[0], float) else np.int64
            assert got.dtype == dtype
            np.testing.assert_array_equal(got, np.array(expected, dtype))


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    try:
        parsed = parse_example(data)
    except WireError:
        return
    reference = CLASSES[True]()
    reference.ParseFromString(data)  # what we accept, protobuf accepts
    assert set(parsed) == set(reference.features.feature)


@settings(max_examples=100, deadline=None)
@given(cut=st.integers(1, 10_000))
def test_cut_messages_are_refused_or_shorter(cut: int) -> None:
    data = encode({"a": [b"xy" * 50], "b": [1.0, 2.0], "c": [2**40, -1]})
    short = data[: -(cut % len(data) or 1)]
    with contextlib.suppress(WireError):
        assert len(parse_example(short)) < 3


def test_only_wanted_names() -> None:
    data = encode({"a": [b"xy"], "b": [1.0], "c": [7]})
    assert list(parse_example(data, {"b"})) == ["b"]


def test_repeated_parts_of_a_feature_are_one_list() -> None:
    """Concatenated messages merge: so says the wire format."""
    value = b"\x1a\x03\x0a\x01\x05" + b"\x1a\x03\x0a\x01\x06"  # Int64List [5], then [6]
    entry = b"\x0a\x01k\x12" + bytes([len(value)]) + value
    features = b"\x0a" + bytes([len(entry)]) + entry
    data = b"\x0a" + bytes([len(features)]) + features
    assert parse_example(data)["k"].tolist() == [5, 6]  # type: ignore[union-attr]
    reference = CLASSES[True].FromString(data)
    assert list(reference.features.feature["k"].int64_list.value) == [5, 6]


def test_checksum_of_the_published_vector() -> None:
    """32 zero bytes have CRC-32C 0x8A9136AA (RFC 3720, appendix B.4)."""
    crc = 0x8A9136AA
    assert masked_crc(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def test_random_access(tmp_path: Path) -> None:
    path = tmp_path / "some data.tfrecord-00000-of-00001"
    records = [encode({"n": [number], "image": [bytes([number]) * 1000 * number]}) for number in range(5)] + [b""]
    write_records(path, records)
    index = index_records(path)
    assert index.shape == (6, 2)
    for number in (3, 0, 5, 4):
        assert read_record(path, *index[number].tolist()) == records[number]
    peeked = list(peek_records(path, index[:5], {"n"}))
    assert [values["n"].tolist() for values in peeked] == [[0], [1], [2], [3], [4]]  # type: ignore[union-attr]


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(b"")
    assert index_records(path).shape == (0, 2)
    assert list(peek_records(path, index_records(path), {"a"})) == []


@pytest.mark.parametrize("missing", [1, 4, 5, 30, 41])
def test_cut_short(tmp_path: Path, missing: int) -> None:
    path = tmp_path / "cut"
    write_records(path, [b"a" * 40, b"b" * 40])
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(DatasetError, match=r"record 1 at byte 56.*cut short"):
        index_records(path)


def test_cut_within_the_header(tmp_path: Path) -> None:
    path = tmp_path / "cut"
    write_records(path, [b"a" * 40, b"b" * 40])
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DatasetError, match=r"at byte 56: expected 12 bytes.*got 4"):
        index_records(path)


@pytest.mark.parametrize("place", [12, 30, 51, 52, 55])
def test_flipped_data_or_checksum(tmp_path: Path, place: int) -> None:
    path = tmp_path / "flipped"
    write_records(path, [b"a" * 40])
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    (row,) = index_records(path).tolist()
    with pytest.raises(DatasetError, match=r"flipped: record at byte 0.*checksum.*again"):
        read_record(path, *row)


@pytest.mark.parametrize("place", range(12))
def test_flipped_length(tmp_path: Path, place: int) -> None:
    path = tmp_path / "flipped"
    write_records(path, [b"a" * 40])
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"at byte 0.*does not match its checksum"):
        index_records(path)


def test_compressed_files_are_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "zipped"
    write_records(path, [b"a" * 40])
    data = path.read_bytes()
    for packed, said in (
        (gzip.compress(data), "compressed with gzip: unpack it"),
        (zlib.compress(data), "compressed TFR"),
    ):
        path.write_bytes(packed)
        with pytest.raises(DatasetError, match=said):
            index_records(path)


def test_peeking_at_damage_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "no example"
    write_records(path, [b"\xff" * 20])
    with pytest.raises(DatasetError, match=r"no example: record at byte 0.*damaged"):
        list(peek_records(path, index_records(path), {"a"}))


def test_changed_after_opening(tmp_path: Path) -> None:
    path = tmp_path / "changed"
    write_records(path, [b"a" * 40])
    (row,) = index_records(path).tolist()
    write_records(path, [b"b" * 39])
    with pytest.raises(DatasetError, match="changed after it was opened"):
        read_record(path, *row)
