"""Hostile messages: what a broken client, a curious one or an enemy might send, endlessly and by a seed."""

from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import numpy as np

from vla.bench.serving.policies import request
from vla.deploy.wire import pack

Rng = np.random.Generator


def hostile_messages(seed: int) -> Iterator[bytes | str]:
    """One kind after the other."""
    rng, good = np.random.default_rng(seed), pack(request())
    while True:
        for make in KINDS.values():
            yield make(rng, good)


def _noise(rng: Rng, good: bytes) -> bytes:
    return rng.bytes(int(rng.integers(0, 400)))


def _cut(rng: Rng, good: bytes) -> bytes:
    return good[: int(rng.integers(0, len(good)))]


def _flipped(rng: Rng, good: bytes) -> bytes:
    """Near the ends, where keys and headers are."""
    spoiled = bytearray(good)
    for _ in range(int(rng.integers(1, 8))):
        place = int(rng.integers(0, 200))
        spoiled[place if rng.random() < 0.5 else -1 - place] = int(rng.integers(0, 256))
    return bytes(spoiled)


def _array(rng: Rng, good: bytes) -> bytes:
    """Types that are pointers, shapes that are negative or huge, data that is too short."""
    array = {
        b"__ndarray__": True,
        b"data": rng.bytes(int(rng.integers(0, 64))),
        b"dtype": str(rng.choice(["|O", "O", "<f4", "|V8", "<c16", ">f4", "<U4", "M8[ns]", "|b1", "<i8"])),
        b"shape": [int(n) for n in rng.choice([-1, 0, 1, 2, 8, 2**31, 2**62, -(2**63)], int(rng.integers(0, 7)))],
    }
    return _packed({"state": array, "images": {"front": array, "wrist": array}, "prompt": "go"})


def _scalar(rng: Rng, good: bytes) -> bytes:
    kind = str(rng.choice(["|O", "<f4", "|u1", "<i8"]))
    return _packed({"time_ns": {b"__npgeneric__": True, b"data": 2**63, b"dtype": kind}})


def _deep(rng: Rng, good: bytes) -> bytes:
    return bytes(rng.choice([b"\x91", b"\x81\xa1a"])) * int(rng.integers(1, 3000)) + b"\x01"


def _wide(rng: Rng, good: bytes) -> bytes:
    head = bytes(rng.choice([b"\xdd", b"\xdf", b"\xc6", b"\xdb"])) + rng.bytes(4)
    return head + b"\x80" * int(rng.integers(0, 5000))


def _spoken(rng: Rng, good: bytes) -> bytes:
    return pack({**request(), "prompt": "x" * int(rng.integers(1000, 100_000))})


def _other(rng: Rng, good: bytes) -> bytes:
    """A request with one value replaced."""
    odd: list[Any] = [
        None,
        True,
        -1,
        2**63,
        1e308,
        float("nan"),
        "",
        "\0",
        b"",
        [],
        {},
        [[]],
        np.zeros(3),
        np.zeros((2, 2, 2, 2)),
    ]
    message: dict[str, Any] = dict(request())
    keys = [*message, "reset", "time_ns", "sequence", "committed", "supersede", "unknown"]
    message[str(rng.choice(keys))] = odd[int(rng.integers(len(odd)))]
    return pack(message)


def _state(rng: Rng, good: bytes) -> bytes:
    odd = np.array([np.nan, np.inf, -np.inf, 1e30, 3.0, 5.0], np.float32)
    return pack({**request(), "state": rng.choice(odd, 7)})


def _text(rng: Rng, good: bytes) -> str:
    return "observe " * int(rng.integers(0, 100))


KINDS: dict[str, Callable[[Rng, bytes], bytes | str]] = {
    "noise": _noise,
    "cut": _cut,
    "flipped": _flipped,
    "array": _array,
    "scalar": _scalar,
    "deep": _deep,
    "wide": _wide,
    "spoken": _spoken,
    "other": _other,
    "state": _state,
    "text": _text,
}


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed
