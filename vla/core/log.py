"""A log of one checksummed JSON line for each thing that happened; a later process goes on where an earlier stopped.

A line that was cut short or damaged ends the log: what stands before it is whole, and opening the log removes the rest.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c

from vla.core.errors import VlaError
from vla.core.files import lock, write_all
from vla.core.sealed import MOST_BYTES, DamageError, parse_json


class CheckedLog:
    """Reads what is there, then appends. Only one process may have it open."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        try:
            lock(self._file.fileno(), path)
        except VlaError:
            self._file.close()
            raise
        self.entries, whole = _read(path)
        """What was in the log when it was opened."""
        self._file.truncate(whole)

    def append(self, entry: dict[str, Any]) -> None:
        """Add an entry; it survives the end of this process when this returns. NaN and infinity are refused."""
        write_all(self._file, checked_line(entry))

    def close(self) -> None:
        """Flush to disk and let others open it."""
        os.fsync(self._file.fileno())
        self._file.close()


def checked_line(entry: dict[str, Any]) -> bytes:
    """One line of a log: its crc32c, and JSON without NaN and infinity."""
    text = json.dumps(entry, ensure_ascii=False, allow_nan=False).encode()
    return b"%08x %s\n" % (google_crc32c.value(text), text)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole entries of a log, which another process may be writing; damage before the last is a `VlaError`."""
    entries, whole = _read(path)
    with path.open("rb") as file:
        file.seek(whole)
        file.readline(MOST_BYTES)
        rest = file.readline(MOST_BYTES)
    if _entry(rest) is not None:
        raise VlaError(f"{path}: line {len(entries) + 1} is damaged, and others follow it; restore it from a copy")
    return entries


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The entries up to the first that is not whole, and the bytes that they take."""
    entries, size = [], 0
    for line, entry in read_lines(path):
        entries.append(entry)
        size += len(line)
    return entries, size


def read_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each whole line of a log with its entry, up to the first that is not whole."""
    with path.open("rb") as file:
        while (entry := _entry(line := file.readline(MOST_BYTES))) is not None:
            yield line, entry


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line says, if it is whole."""
    checksum, _, text = line[:-1].partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % google_crc32c.value(text):
        return None
    try:
        return parse_json(text)
    except DamageError:
        return None
