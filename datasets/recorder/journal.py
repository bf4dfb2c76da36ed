"""The write-ahead log of a recorder: one checksummed JSON line for each thing that happened, appended as it happens.

A line that was cut short or damaged ends the log: what stands before it is whole.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vla.core.files import write_all
from vla.core.log import checked_line, read_lines


class Journal:
    """Appends entries to a log."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def append(self, entry: dict[str, Any]) -> None:
        """Add an entry; it is in the file, though not flushed to disk, when this returns."""
        write_all(self._file, checked_line(entry))

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a log up to the first that is not whole."""
    return (entry for _, entry in read_lines(path))
