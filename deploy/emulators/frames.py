"""Finding the frames of a servo protocol in a stream of bytes: what all such protocols have in common."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """One instruction or status, as it was received."""

    identifier: int
    instruction: int
    parameters: bytes
    size: int
    """Bytes on the wire."""
    intact: bool = True
    """Whether the checksum fits; if not, nothing in it can be trusted."""


class Frames:
    """Finds frames in a stream that may have lost or gained some bytes.

    ``size_of`` tells the size of the frame that begins with these bytes, 0 where none can begin there, and None where
    too few are there to tell; ``parse`` gets exactly the bytes of one.
    """

    def __init__(self, header: bytes, size_of: Callable[[bytes], int | None], parse: Callable[[bytes], Frame]) -> None:
        self._header, self._size_of, self._parse = header, size_of, parse
        self._bytes = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that end in ``data``."""
        self._bytes += data
        found = []
        while (frame := self._next()) is not None:
            found.append(frame)
        return found

    def clear(self) -> None:
        """Forget what was begun: the line has been silent for too long."""
        self._bytes = b""

    def _next(self) -> Frame | None:
        while (start := self._bytes.find(self._header)) >= 0:
            data = self._bytes = self._bytes[start:]
            size = self._size_of(data)
            if size == 0:
                self._bytes = data[1:]
                continue
            if size is None or len(data) < size:
                return None
            self._bytes = data[size:]
            return self._parse(data[:size])
        self._bytes = self._bytes[len(self._bytes) - min(len(self._bytes), len(self._header) - 1) :]
        return None  # what is kept may be the beginning of a header
