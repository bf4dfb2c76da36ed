"""MCAP files as lists of messages: whole ones, and what is left of those whose recorder was interrupted."""

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla.core.errors import DatasetError

MAGIC = b"\x89MCAP0\r\n"
_MILLISECONDS = range(10**12, 10**13)
"""Times from 2001 to 2286, where somebody wrote milliseconds since 1970 instead of nanoseconds."""


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
    """The messages of a file, by topic, in the order of the file."""

    path: Path
    channels: Mapping[str, Channel]
    messages: Mapping[str, list[tuple[int, bytes]]]
    """Log time in nanoseconds, and data."""
    metadata: Mapping[str, str]
    """Of all metadata records together."""
    scale: int
    """What times within messages are multiplied with: not 1 where the recorder wrote milliseconds."""
    recovered: bool
    """Whether the end of the file is missing."""


@dataclass
class _Found:
    """What was read up to now."""

    profile: str = ""
    schemas: dict[int, Any] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    messages: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


def has_footer(path: Path) -> bool:
    """Whether the file was closed; a file that is no MCAP at all is a `DatasetError`."""
    with path.open("rb") as file:
        start = file.read(len(MAGIC))
        size = file.seek(0, 2)
        file.seek(max(size - len(MAGIC), 0))
        end = file.read()
    if start != MAGIC:
        raise DatasetError(
            f"{path}: expected the first bytes of an MCAP file, got {start!r}; take it out of the folder"
        )
    return end == MAGIC and size > 2 * len(MAGIC)


def read_recording(path: Path, wanted: Collection[str] | None = None) -> Recording:
    """The messages of the ``wanted`` topics; damage is a `DatasetError`."""
    closed = has_footer(path)
    found = _Found()
    problem = ""
    with path.open("rb") as file:
        try:
            for record in _records(file):
                _add(found, record, wanted)
        except _damages() as error:
            problem = f"{type(error).__name__}: {error}".rstrip(": ")
    if problem and closed:
        raise DatasetError(f"{path}: the file is damaged ({problem}); copy it again, or leave it out")
    scale = _scale(found)
    messages = {topic: [(time * scale, data) for time, data in rows] for topic, rows in found.messages.items()}
    return Recording(
        path=path,
        channels={channel.topic: channel for channel in found.channels.values()},
        messages=messages,
        metadata=found.metadata,
        scale=scale,
        recovered=bool(problem) or not closed,
    )


def _records(file: Any) -> Iterator[Any]:
    """Every record, those within chunks too, their checksums verified."""
    from mcap.records import Chunk
    from mcap.stream_reader import StreamReader, breakup_chunk

    for record in StreamReader(file, emit_chunks=True, validate_crcs=True).records:
        if isinstance(record, Chunk):
            yield from breakup_chunk(record, validate_crc=True)
        else:
            yield record


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
        found.channels[record.id] = Channel(
            topic=record.topic,
            encoding=record.message_encoding,
            schema=schema.name if schema else "",
            schema_encoding=schema.encoding if schema else "",
            schema_data=schema.data if schema else b"",
        )
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
