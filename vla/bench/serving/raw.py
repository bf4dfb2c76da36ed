"""A websocket client that keeps no rule: it sends what it is told, and reads only when it is told."""

import contextlib
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from websockets.frames import Frame, Opcode

_REQUEST = (
    "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def dial(address: str, timeout_s: float = 5.0) -> socket.socket:
    """A TCP connection to ``ws://host:port``, and nothing said yet."""
    url = urlsplit(address)
    assert url.hostname is not None, address
    return socket.create_connection((url.hostname, url.port or 80), timeout_s)


@contextlib.contextmanager
def raw_client(address: str, timeout_s: float = 5.0) -> Iterator[socket.socket]:
    """A connection after the opening handshake; what the server has said besides is not read."""
    with dial(address, timeout_s) as connection:
        connection.sendall(_REQUEST.format(host=urlsplit(address).netloc).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            if not byte:
                raise ConnectionError("the server closed the connection during the handshake")
            head += byte
        if b" 101 " not in head.partition(b"\r\n")[0]:
            raise ConnectionError(head.partition(b"\r\n")[0].decode(errors="replace"))
        yield connection


def frame(opcode: Opcode, data: bytes, *, last: bool = True) -> bytes:
    """One frame of a client, masked."""
    return Frame(opcode, data, last).serialize(mask=True)


def is_open(connection: socket.socket, timeout_s: float) -> bool:
    """Whether the server keeps the connection for so long; what it says meanwhile is thrown away."""
    connection.settimeout(timeout_s)
    try:
        while connection.recv(1 << 16):
            pass
    except TimeoutError:
        return True
    except OSError:
        return False
    return False
