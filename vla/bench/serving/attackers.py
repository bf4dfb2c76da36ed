"""Clients that mean no good, in a process of their own: each a function that attacks until it is told to stop."""

import contextlib
import itertools
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.frames import Opcode
from websockets.sync.client import connect

from vla.bench.serving.messages import hostile_messages
from vla.bench.serving.raw import dial, frame, is_open, raw_client
from vla.core.machine.processes import end_with_parent

_GONE = (OSError, ConnectionClosed, InvalidHandshake)
_LARGE = 64 << 20
Stop = threading.Event
Attack = Callable[[str, Stop, int], int]
"""Attacks an address until stopped, by a seed; answers how many messages or connections that were."""


def send_hostile(address: str, stop: Stop, seed: int, most: int | None = None) -> int:
    """Messages of every kind, each answered before the next; connects again when it is thrown out."""
    messages, sent = hostile_messages(seed), 0
    while not stop.is_set() and sent != most:
        with contextlib.suppress(*_GONE, TimeoutError), connect(address, compression=None, proxy=None) as connection:
            connection.recv(timeout=5)
            while not stop.is_set() and sent != most:
                connection.send(next(messages))
                sent += 1
                connection.recv(timeout=30)
    return sent


def loris(address: str, stop: Stop, seed: int) -> int:
    """Handshakes and messages that come a byte at a time, and never end."""
    times = 0
    while not stop.is_set():
        with contextlib.suppress(*_GONE), dial(address) as shaking, raw_client(address) as speaking:
            times += 1
            for byte in itertools.islice(itertools.cycle(b"GET / HTTP/1.1"), 20):
                shaking.sendall(bytes([byte]))
                speaking.sendall(frame(Opcode.BINARY, bytes([byte]), last=False))
                if stop.wait(0.1):
                    break
    return times


def mute(address: str, stop: Stop, seed: int) -> int:
    """Pings, and never reads what comes back."""
    times, pings = 0, frame(Opcode.PING, bytes(125)) * 100
    while not stop.is_set():
        with contextlib.suppress(*_GONE), raw_client(address) as connection:
            times += 1
            while not stop.wait(0.05):
                connection.sendall(pings)
        stop.wait(0.2)
    return times


def oversized(address: str, stop: Stop, seed: int) -> int:
    """Begins messages that are too large, and frames that are none."""
    times = 0
    pieces = (b"\x82\xff" + _LARGE.to_bytes(8, "big") + bytes(1 << 16), b"\xff" * 64, b"\x82\x05hello", b"\x0f\x80aaaa")
    for piece in itertools.cycle(pieces):
        if stop.wait(0.1):
            return times
        with contextlib.suppress(*_GONE), raw_client(address) as connection:
            times += 1
            connection.sendall(piece)
            is_open(connection, 0.5)
    return times


def churn(address: str, stop: Stop, seed: int) -> int:
    """Connects and goes, with and without a word."""
    times = 0
    while not stop.wait(0.02):
        with contextlib.suppress(*_GONE), dial(address) as connection:
            times += 1
            if times % 2:
                connection.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
    return times


ATTACKS: dict[str, Attack] = {
    "hostile": send_hostile,
    "loris": loris,
    "mute": mute,
    "oversized": oversized,
    "churn": churn,
}


def attack(pipe: Connection, address: str, seed: int, clients: int, most: int | None) -> None:
    """In a process of its own, until the pipe says so: every attack, or ``most`` hostile messages by each client."""
    end_with_parent()
    os.nice(19)  # they would have processors of their own
    stop, done = Stop(), dict[str, int]()

    def run(name: str, act: Callable[..., int], *arguments: Any) -> None:
        done[name] = act(address, stop, *arguments)

    named: dict[str, tuple[Any, ...]] = {f"hostile {n}": (send_hostile, seed + n, most) for n in range(clients)}
    if most is None:
        named |= {name: (act, seed) for name, act in ATTACKS.items()}
    threads = [threading.Thread(target=run, args=(name, *what), daemon=True) for name, what in named.items()]
    for thread in threads:
        thread.start()
    if most is None:
        pipe.recv()
        stop.set()
    for thread in threads:
        thread.join()
    pipe.send(done)
