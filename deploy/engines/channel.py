"""Whole messages between this process and a child of its own; an event loop that asks never waits for the child."""

import asyncio
import os
import socket
import struct
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

_SIZE = struct.Struct("<Q")
_PART = 1 << 18


class Channel:
    """One end of a pipe, which is a socket; `EOFError` or `OSError` when the other end is gone."""

    def __init__(self, pipe: Connection) -> None:
        self._socket = socket.socket(fileno=os.dup(pipe.fileno()))
        pipe.close()

    def send(self, value: Any) -> None:
        """Wait until it is written."""
        self._socket.setblocking(True)
        self._socket.sendall(_message(value))

    def receive(self, timeout_s: float | None = None) -> Any:
        """Wait for the next message; `TimeoutError` when one part of it takes longer than ``timeout_s``."""
        self._socket.settimeout(timeout_s)
        data, needed = bytearray(), _SIZE.size
        while len(data) < needed:
            part = self._socket.recv(min(_PART, needed - len(data)))
            if not part:
                raise EOFError
            data += part
            if len(data) == needed == _SIZE.size:
                needed += _SIZE.unpack(data)[0]
        return ForkingPickler.loads(memoryview(data)[_SIZE.size :])

    async def ask(self, value: Any) -> Any:
        """Send it and await the one message that comes back; not for two questions at a time."""
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        await loop.sock_sendall(self._socket, _message(value))
        data = bytearray()
        while len(data) < _SIZE.size or len(data) < _SIZE.size + _SIZE.unpack_from(data)[0]:
            part = await loop.sock_recv(self._socket, _PART)
            if not part:
                raise EOFError
            data += part
        return ForkingPickler.loads(memoryview(data)[_SIZE.size :])

    def close(self) -> None:
        """Close the end that is here."""
        self._socket.close()


def _message(value: Any) -> bytes:
    data = ForkingPickler.dumps(value)
    return _SIZE.pack(len(data)) + data
