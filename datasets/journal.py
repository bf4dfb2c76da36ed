"""The write-ahead log of a recorder: one checksummed JSON line for each thing that happened, appended as it happens.

A line that was cut short or damaged ends the log: what stands before it is whole.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c

from vla.core.files import write_all


class Journal:
    """Appends entries to a log."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def append(self, entry: dict[str, Any]) -> None:
        """Add an entry; it is in the file, though not flushed to disk, when this returns."""
        text = json.dumps(entry, ensure_ascii=False, allow_nan=False).encode()
        write_all(self._file, b"%08x %s\n" % (google_crc32c.value(text), text))

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a log up to the first that is not whole."""
    with path.open("rb") as file:
        for line in file:
            checksum, _, text = line[:-1].partition(b" ")
            if not line.endswith(b"\n") or checksum != b"%08x" % google_crc32c.value(text):
                return
            yield json.loads(text)
