"""MCAP files as lists of messages: whole ones, and what is left of those whose recorder was interrupted."""

import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

from vla.core.errors import DatasetError
from vla.core.media.signatures import cause_of
from vla.datasets.formats.mcap.bags import Bag

MAGIC = b"\x89MCAP0\r\n"
_MILLISECONDS = range(10**12, 10**13)
"""Times from 2001 to 2286, where somebody wrote milliseconds since 1970 instead of nanoseconds."""

_LARGEST = 2**30
"""Bytes of one unpacked chunk or message: more is a mistake, or meant to fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One topic, and how its messages are written."""

    topic: str
    encoding: str
    """Of messages: ``json``, ``cdr``, ..."""
    schema: str
    schema_encoding: str
    schema_data: bytes


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The messages of a recording, by topic, in the order of its files."""

    path: Path
    channels: Mapping[str, Channel]
    messages: Mapping[str, list[tuple[int, bytes]]]
    """Log time in nanoseconds, and data."""
    metadata: Mapping[str, str]
    """Of all metadata records together."""
    scale: int
    """What times within messages are multiplied with: not 1 where the recorder wrote milliseconds."""
    recovered: tuple[str, ...]
    """The files whose end is missing, and how much of them was read."""


@dataclass
class _Found:
    """What was read up to now."""

    profile: str = ""
    schemas: dict[int, Any] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    topics: dict[str, Channel] = field(default_factory=dict)
    messages: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


def read_recording(bag: Bag, wanted: Collection[str] | None = None) -> Recording:
    """The messages of the ``wanted`` topics; damage is a `DatasetError`."""
    if bag.problem:
        raise DatasetError(bag.problem)
    whole = _Found()
    recovered: list[str] = []
    for file in bag.files:
        found = _Found()
        _read(file, found, wanted, recovered)
        _join(whole, found, file)
    whole.metadata.update(bag.texts)
    if bag.packed:
        whole.messages = {
            topic: [(t, _unpacked(bag, data)) for t, data in rows] for topic, rows in whole.messages.items()
        }
    scale = _scale(whole)
    return Recording(
        path=bag.path,
        channels=whole.topics,
        messages={topic: [(time * scale, data) for time, data in rows] for topic, rows in whole.messages.items()},
        metadata=whole.metadata,
        scale=scale,
        recovered=tuple(recovered),
    )


def _read(path: Path, found: "_Found", wanted: Collection[str] | None, recovered: list[str]) -> None:
    """Note everything in one file."""
    closed = _is_closed(path)
    problem, place = "", 0
    with _opened(path) as file:
        try:
            for record in _records(file, path.stat().st_size):
                _add(found, record, wanted)
        except _damages() as error:
            problem = f"{type(error).__name__}: {error}".rstrip(": ")
            place = file.tell()
    if problem and closed:
        raise DatasetError(f"{path}: the file is damaged ({problem}); copy it again, or leave it out")
    if problem or not closed:
        recovered.append(f"{path.name}: read up to byte {place or path.stat().st_size} of {path.stat().st_size}")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The bytes of a file, unpacked where rosbag2 packed it as a whole."""
    with path.open("rb") as file:
        if path.suffix != ".zstd":
            yield file
            return
        import zstandard

        with zstandard.ZstdDecompressor().stream_reader(file) as unpacked:
            yield BufferedReader(unpacked)


def has_no_end(path: Path) -> bool:
    """Whether the recorder did not end a file; of what is no MCAP at all, reading it tells."""
    try:
        return not _is_closed(path)
    except (OSError, DatasetError):
        return False


def _is_closed(path: Path) -> bool:
    """Whether the recorder ended the file; one that is no MCAP at all is a `DatasetError`."""
    try:
        with _opened(path) as unpacked:
            start = unpacked.read(len(MAGIC))
    except _damages() as error:
        raise DatasetError(f"{path}: cannot be unpacked ({error}); copy it again") from None
    if path.suffix == ".zstd" and not start:
        raise DatasetError(f"{path}: nothing of it can be unpacked, it is cut short; copy it again")
    if start != MAGIC:
        cause = cause_of(path, "an MCAP file") or "expected the first bytes of an MCAP file, got others"
        raise DatasetError(f"{path}: {cause}; take it out of the folder")
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - len(MAGIC), 0))
        end = file.read()
    return path.suffix == ".zstd" or (end == MAGIC and size > 2 * len(MAGIC))


def _join(whole: "_Found", found: "_Found", file: Path) -> None:
    """Append what one file holds to what those before it hold."""
    whole.profile = whole.profile or found.profile
    whole.metadata.update(found.metadata)
    for topic, channel in found.topics.items():
        known = whole.topics.setdefault(topic, channel)
        if known != channel:
            raise DatasetError(
                f"{file}: topic {topic} is {channel.schema or channel.encoding} here, {known.schema or known.encoding} "
                "before, or its definition differs; leave the recording out"
            )
    for topic, rows in found.messages.items():
        whole.messages.setdefault(topic, []).extend(rows)


def _unpacked(bag: Bag, data: bytes) -> bytes:
    """A message that was packed by itself."""
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=_LARGEST)
    except zstandard.ZstdError as error:
        raise DatasetError(f"{bag.path}: a message cannot be unpacked ({error}); copy it again") from None


def _records(file: Any, size: int) -> Iterator[Any]:
    """Every record, those within chunks too, their checksums verified; no chunk may unpack to more than it says."""
    from mcap.records import Chunk
    from mcap.stream_reader import StreamReader, breakup_chunk

    for record in StreamReader(
        file, emit_chunks=True, validate_crcs=True, record_size_limit=max(size, _LARGEST)
    ).records:
        if isinstance(record, Chunk):
            _check_size(record)
            yield from breakup_chunk(record, validate_crc=True)
        else:
            yield record


def _check_size(chunk: Any) -> None:
    import zstandard

    size = chunk.uncompressed_size
    if chunk.compression == "zstd" and (held := zstandard.frame_content_size(chunk.data)) > 0:
        size = max(size, held)
    if size > _LARGEST:
        raise ValueError(f"a chunk that would unpack to {size} bytes")


def _add(found: _Found, record: Any, wanted: Collection[str] | None) -> None:
    """Note one record."""
    from mcap import records

    if isinstance(record, records.Message):
        topic = found.channels[record.channel_id].topic
        if wanted is None or topic in wanted:
            found.messages.setdefault(topic, []).append((record.log_time, record.data))
    elif isinstance(record, records.Schema):
        found.schemas[record.id] = record
    elif isinstance(record, records.Channel):
        schema = found.schemas.get(record.schema_id)
        channel = found.channels[record.id] = Channel(
            topic=record.topic,
            encoding=record.message_encoding,
            schema=schema.name if schema else "",
            schema_encoding=schema.encoding if schema else "",
            schema_data=schema.data if schema else b"",
        )
        found.topics[channel.topic] = channel
    elif isinstance(record, records.Metadata):
        found.metadata.update(record.metadata)
    elif isinstance(record, records.Header):
        found.profile = record.profile


def _scale(found: _Found) -> int:
    """DROID's recorder writes milliseconds where MCAP asks for nanoseconds."""
    times = [rows[0][0] for rows in found.messages.values()]
    return 1_000_000 if found.profile == "droid" and times and all(time in _MILLISECONDS for time in times) else 1


def _damages() -> tuple[type[Exception], ...]:
    """What damaged bytes can raise in the reader and its decompressors."""
    import zstandard
    from mcap.exceptions import McapError

    return (McapError, zstandard.ZstdError, struct.error, ValueError, RuntimeError, KeyError, EOFError, OverflowError)
