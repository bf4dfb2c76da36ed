"""Values kept one after the other in a folder that never grows beyond its bound: files of frames with checksums.

NUMBER.frames    the line `_MAGIC`, then frames: length (4 bytes, little endian), crc32c (4 bytes), msgpack

Each opening begins a file; a file that is full is followed by the next, and the oldest goes when all are too large. A
frame that was cut short, by a crash, ends its file; one that fails its checksum is an error.
"""

import logging
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c

from vla.core.errors import ServeError, VlaError
from vla.core.files import lock, open_below, write_all
from vla.deploy.wire import pack, unpack

_MAGIC = b"vla frames 1\n"
_HEAD = struct.Struct("<II")
_FILES = 8
"""A folder has about so many: when it is full, an eighth of what it holds goes at once."""
_MOST_FRAME, _MOST_ITEMS = 1 << 30, 1 << 22

_log = logging.getLogger(__name__)


class FrameWriter:
    """Appends; only one at a time may have the folder. ``first`` gives what each file begins with."""

    def __init__(self, folder: Path, most_bytes: int, first: Callable[[], Any]) -> None:
        self._folder, self._most, self._first = folder, most_bytes, first
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / "lock").open("ab")
        try:
            lock(self._lock.fileno(), folder)
        except VlaError:
            self._lock.close()
            raise
        self._file: Any = None
        self._written = 0

    def append(self, value: Any) -> None:
        """Write one value; it survives the end of this process. `ServeError` for what does not travel."""
        data = pack(value)
        if self._file is None or self._written + len(data) > self._most // _FILES:
            self._begin()
        self._write(data)

    def close(self) -> None:
        """Let others have the folder."""
        if self._file is not None:
            self._file.close()
        self._lock.close()

    def _begin(self) -> None:
        if self._file is not None:
            self._file.close()
        there = _files(self._folder)
        self._file = (self._folder / f"{_number(there[-1]) + 1 if there else 1:08d}.frames").open("xb", buffering=0)
        write_all(self._file, _MAGIC)
        self._written = len(_MAGIC)
        self._write(pack(self._first()))
        room = self._most - self._most // _FILES
        while there and sum(path.stat().st_size for path in there) > room:
            there.pop(0).unlink()

    def _write(self, data: bytes) -> None:
        write_all(self._file, _HEAD.pack(len(data), google_crc32c.value(data)) + data)
        self._written += _HEAD.size + len(data)


def read_frames(folder: Path) -> Iterator[Any]:
    """All values that are left, the oldest first; `ServeError` names the file that is damaged."""
    there = _files(folder) if folder.is_dir() else []
    if not there:
        raise ServeError(f"{folder} holds no record; vla serve --record writes one")
    for path in there:
        handle = open_below(folder, path.name)
        with os.fdopen(handle, "rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ServeError(f"{path} is no record of this version of vla, or is damaged; remove it")
            yield from _frames(file, path)


def _frames(file: Any, path: Path) -> Iterator[Any]:
    while head := file.read(_HEAD.size):
        size, checksum = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0)
        if size > _MOST_FRAME:
            raise ServeError(f"{path} is damaged at byte {file.tell() - len(head)}; remove it")
        data = file.read(size)
        if len(head) < _HEAD.size or len(data) < size:
            _log.warning("%s: its last frame was cut short, and is left out", path)
            return
        if google_crc32c.value(data) != checksum:
            raise ServeError(f"{path} fails a checksum at byte {file.tell() - size}; remove it")
        yield unpack(data, items=_MOST_ITEMS)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.frames") if path.stem.isdigit())


def _number(path: Path) -> int:
    return int(path.stem)
