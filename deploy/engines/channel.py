"""Whole messages between this process and a child of its own; an event loop that asks never waits for the child.

Messages are msgpack, and what is an array is the sender's to describe: two processes of one server trust each other.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import msgpack

_SIZE = struct.Struct("<Q")
_PART = 1 << 18
_MOST = 2**31 - 1
"""Of whatever a message holds; what a policy answers is its own business."""
Heard = Callable[[Any], None]
"""Gets the message that came back, or `OSError` if the other end is gone."""


class Channel:
    """One end of a pipe, which is a socket; `EOFError` or `OSError` when the other end is gone."""

    def __init__(self, pipe: Connection) -> None:
        self._socket = socket.socket(fileno=os.dup(pipe.fileno()))
        pipe.close()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heard: Heard | None = None
        self._unsent, self._blocked, self._read = memoryview(b""), False, bytearray()

    def send(self, value: Any) -> None:
        """Wait until it is written."""
        self._socket.sendall(_message(value))

    def receive(self, timeout_s: float | None = None) -> Any:
        """Wait for the next message; `TimeoutError` when one part of it takes longer than ``timeout_s``."""
        self._socket.settimeout(timeout_s)
        data = bytearray()
        while _missing(data):
            part = self._socket.recv(_PART)  # of this message: its sender waits for the answer
            if not part:
                raise EOFError
            data += part
        return _value(data)

    def ask(self, value: Any, heard: Heard) -> None:
        """Send it from the running event loop, which calls ``heard`` with what comes back; one question at a time."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._socket.setblocking(False)
            loop.add_reader(self._socket, self._readable)
            self._loop = loop
        self._heard, self._read = heard, bytearray()
        self._unsent = memoryview(_message(value))
        self._writable()
        if self._unsent:
            loop.add_writer(self._socket, self._writable)
            self._blocked = True

    def close(self) -> None:
        """Close the end that is here, from any thread."""
        loop, self._loop = self._loop, None
        if loop is None:
            self._socket.close()
            return
        try:
            loop.call_soon_threadsafe(self._leave, loop)
        except RuntimeError:  # the loop is closed
            self._socket.close()

    def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._socket.fileno() >= 0:
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
            self._socket.close()

    def _writable(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = memoryview(b"")  # that the other end is gone is seen when it is read from
        if self._blocked and not self._unsent and self._loop is not None:
            self._loop.remove_writer(self._socket)
            self._blocked = False

    def _readable(self) -> None:
        try:
            part = self._socket.recv(_PART)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        self._read += part
        if part and _missing(self._read):
            return
        if not part and self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._loop = None
        heard, self._heard = self._heard, None
        if heard is not None:
            heard(_value(self._read) if part else ConnectionResetError("the other end is gone"))


def _message(value: Any) -> bytes:
    data: bytes = msgpack.packb(value)
    return _SIZE.pack(len(data)) + data


def _missing(data: bytearray) -> bool:
    return len(data) < _SIZE.size or len(data) < _SIZE.size + _SIZE.unpack_from(data)[0]


def _value(data: bytearray) -> Any:
    whole = memoryview(data)[_SIZE.size :]
    return msgpack.unpackb(whole, max_bin_len=_MOST, max_array_len=_MOST, max_map_len=_MOST, strict_map_key=False)
