"""TFRecord files and the ``tf.train.Example`` messages in them, read without TensorFlow.

A record is its length (uint64), the checksum of those eight bytes, the data, and the checksum of the data, all little
endian. A message is protocol buffers' wire format: a map from names to lists of bytes, float32 or int64.

    Example   1: Features      Features  1: map entry, repeated      entry    1: name, 2: Feature
    Feature   1: BytesList, 2: FloatList, 3: Int64List               each     1: value, repeated, packed or not
"""

import mmap
import struct
from collections.abc import Collection, Iterator
from pathlib import Path

import google_crc32c
import numpy as np
from jaxtyping import Int64

from vla.core.errors import DatasetError
from vla.core.media.signatures import cause_of

_HEADER = 12
_FOOTER = 4
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_FIELD_NUMBERS = 2**29
_DTYPES = {1: "bytes", 2: "float", 3: "int64"}

Values = list[bytes] | np.ndarray
"""What one name holds: bytes, float32 (_,) or int64 (_,); no values at all are an empty list."""


class WireError(ValueError):
    """Bytes that are not the message they should be; callers add the file."""


def masked_crc(data: bytes | memoryview) -> int:
    """The checksum that TFRecord stores: CRC-32C, rotated by 15 bits, plus a constant."""
    crc = int(google_crc32c.value(bytes(data)))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def index_records(path: Path) -> Int64[np.ndarray, "n 2"]:
    """Offset and length of the data of each record, from the frames alone; damage is a `DatasetError`."""
    rows, problem = whole_records(path)
    if problem:
        raise DatasetError(problem)
    return rows


def whole_records(path: Path) -> tuple[Int64[np.ndarray, "n 2"], str]:
    """As `index_records`, of those before the first damage, and what that is; empty for none."""
    rows, problem = list[tuple[int, int]](), ""
    size = path.stat().st_size
    with path.open("rb") as file:
        place = 0
        while place < size:
            file.seek(place)
            try:
                length = _length(file.read(_HEADER), path, place)
            except DatasetError as error:
                cause = None if rows else cause_of(path, "a TFRecord file")
                problem = f"{path}: {cause}" if cause else str(error)
                break
            end = place + _HEADER + length + _FOOTER
            if end > size:
                problem = (
                    f"{path}: record {len(rows)} at byte {place}: expected {length} bytes of data, but the file ends "
                    f"at byte {size}; it is cut short: copy or download it again"
                )
                break
            rows.append((place + _HEADER, length))
            place = end
    return np.array(rows, np.int64).reshape(-1, 2), problem


def read_record(path: Path, offset: int, length: int) -> bytes:
    """The data of the record at ``offset``, its checksums verified; damage is a `DatasetError`."""
    with path.open("rb") as file:
        file.seek(offset - _HEADER)
        frame = file.read(_HEADER + length + _FOOTER)
    written = _length(frame[:_HEADER], path, offset - _HEADER)
    data = frame[_HEADER : _HEADER + length]
    if written != length or len(frame) != _HEADER + length + _FOOTER:
        raise DatasetError(
            f"{path}: record at byte {offset - _HEADER}: expected {length} bytes of data, got {written}; "
            "the file was changed after it was opened: open it again"
        )
    if masked_crc(data) != struct.unpack("<I", frame[-_FOOTER:])[0]:
        raise DatasetError(
            f"{path}: record at byte {offset - _HEADER}: its {length} bytes of data do not match their checksum; "
            "the file is damaged: copy or download it again"
        )
    return data


def _length(header: bytes, path: Path, place: int) -> int:
    """The length that a record's first twelve bytes hold."""
    if len(header) == _HEADER:
        length, crc = struct.unpack("<QI", header)
        if masked_crc(header[:8]) == crc:
            return int(length)
        problem = "the length of the record does not match its checksum"
    else:
        problem = f"expected {_HEADER} bytes before the data of a record, got {len(header)}"
    hint = " (compressed TFRecord files are not read)" if header[:2] in (b"\x1f\x8b", b"\x78\x9c") else ""
    raise DatasetError(
        f"{path}: at byte {place}: {problem}; the file is damaged or no TFRecord{hint}: copy or download it again"
    )


def peek_records(path: Path, records: Int64[np.ndarray, "n 2"], wanted: Collection[str]) -> Iterator[dict[str, Values]]:
    """The ``wanted`` values of these records; other bytes, like images, are not read, nor checksums verified."""
    if not len(records):
        return
    with path.open("rb") as file:
        # Closed when the last view of it is gone, which an error may hold for a while.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_RANDOM"):
        mapped.madvise(mmap.MADV_RANDOM)  # else the kernel reads ahead what is skipped
    view = memoryview(mapped)
    for offset, length in records.tolist():
        try:
            yield parse_example(view[offset : offset + length], wanted)
        except WireError as error:
            raise DatasetError(f"{path}: record at byte {offset - _HEADER}: {error}") from None


def parse_example(data: bytes | memoryview, wanted: Collection[str] | None = None) -> dict[str, Values]:
    """The values of a ``tf.train.Example``, of the ``wanted`` names only; `WireError` where it is none."""
    result: dict[str, Values] = {}
    view = memoryview(data)
    for number, wire, features in _fields(view):
        if (number, wire) != (1, _LENGTH):
            continue
        for key, kind, entry in _fields(features):
            if (key, kind) != (1, _LENGTH):
                continue
            name, values = _entry(entry, wanted)
            if values is not None:
                result[name] = values
    return result


def _entry(entry: memoryview, wanted: Collection[str] | None) -> tuple[str, Values | None]:
    """One name and its values; None where they are not wanted."""
    name, parts = "", []
    for number, wire, content in _fields(entry):
        if (number, wire) == (1, _LENGTH):
            try:
                name = str(content, "utf-8")
            except UnicodeDecodeError:
                raise WireError("a feature's name is not UTF-8; the message is damaged") from None
        elif (number, wire) == (2, _LENGTH):
            parts.append(content)
    if wanted is not None and name not in wanted:
        return name, None
    return name, _feature(parts)


def _feature(parts: list[memoryview]) -> Values:
    """The list that a Feature holds: parts of one kind are one list, and of several kinds the last counts."""
    kind, contents = 0, list[memoryview]()
    for part in parts:
        for number, wire, content in _fields(part):
            if wire != _LENGTH or number not in _DTYPES:
                continue
            if number != kind:
                kind, contents = number, []
            contents.append(content)
    values = [item for content in contents for item in _fields(content) if item[0] == 1]
    if kind == 1:
        return [bytes(value) for _, wire, value in values if wire == _LENGTH]
    if kind == 2:
        raw = b"".join(bytes(value) for _, wire, value in values if wire in (_LENGTH, _FIXED32))
        if len(raw) % 4:
            raise WireError(f"expected floats of 4 bytes, got {len(raw)} bytes; the message is damaged")
        return np.frombuffer(raw, "<f4").astype(np.float32)
    if kind == 3:
        return _varints(b"".join(bytes(value) for _, wire, value in values if wire in (_LENGTH, _VARINT)))
    return []


def _fields(view: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Number, wire type and content of each field; the content of a varint is its bytes."""
    place, end = 0, len(view)
    while place < end:
        tag, place = _varint(view, place)
        number, wire = tag >> 3, tag & 7
        start = place
        if wire == _VARINT:
            _, place = _varint(view, place)
        elif wire == _LENGTH:
            length, start = _varint(view, place)
            place = start + length
        elif wire in (_FIXED32, _FIXED64):
            place += 4 if wire == _FIXED32 else 8
        else:
            raise WireError(f"wire type {wire} at byte {start}; the message is damaged, or no tf.train.Example")
        if place > end or not 0 < number < _FIELD_NUMBERS:
            raise WireError(f"field {number} at byte {start} does not fit its {end} bytes; the message is damaged")
        yield number, wire, view[start:place]


def _varint(view: memoryview, place: int) -> tuple[int, int]:
    """An unsigned varint and the place after it."""
    value = 0
    for count, byte in enumerate(view[place : place + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, place + count + 1
    raise WireError(f"a number at byte {place} has no end; the message is damaged")


def _varints(raw: bytes) -> Int64[np.ndarray, " n"]:
    """Signed numbers, one behind another: all at once, as tensors of pixels come this way too."""
    data = np.frombuffer(raw, np.uint8)
    ends = np.flatnonzero(data < 0x80)
    if len(data) == len(ends):
        return data.astype(np.int64)
    if not len(ends) or ends[-1] != len(data) - 1:
        raise WireError("the last integer has no end; the message is damaged")
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() >= _LONGEST_VARINT:
        raise WireError(f"an integer of more than {_LONGEST_VARINT} bytes; the message is damaged")
    place = np.arange(len(data)) - np.repeat(starts, ends - starts + 1)
    shifted = (data & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(shifted, starts).view(np.int64)
