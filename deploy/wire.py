"""Values as bytes: openpi's msgpack encoding, decoded without trust in the sender.

An array is a map with four *binary* keys, ``{b"__ndarray__": True, b"data": C-order bytes, b"dtype": "<f4",
b"shape": [2, 7]}``; a numpy scalar is ``{b"__npgeneric__": True, b"data": item, b"dtype": "<f4"}``. The bytes equal
those of ``openpi_client.msgpack_numpy``. That decoder builds arrays of any type the sender names (an object array there
is a pointer of the sender's choice); this one has an allow-list, checks sizes before it allocates, and copies.
"""

import logging
import math
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from vla.core.errors import ServeError

DTYPES = {name: np.dtype(name) for name in ("|b1", "|u1", "<u2", "<i4", "<i8", "<f4", "<f8")}
MAX_RANK = 5
MAX_DIM = 1 << 20
MAX_DEPTH = 32
"""Lists and maps within each other; an observation has three."""
MAX_ITEMS = 1 << 16
"""Most list elements, map entries and containers in one message: an empty map is 1 byte here and 64 in memory."""

_NDARRAY_KEYS = {b"__ndarray__", b"data", b"dtype", b"shape"}
_GENERIC_KEYS = {b"__npgeneric__", b"data", b"dtype"}


def wire_log() -> logging.Logger:
    """What websockets logs to: never its headers, one of which is the key."""
    log = logging.getLogger("vla.websockets")
    log.setLevel(max(log.getEffectiveLevel(), logging.INFO))
    return log


def pack(value: Any) -> bytes:
    """Encode maps, lists, numbers, strings, bytes and arrays of the types in `DTYPES`; `ServeError` for all else."""
    try:
        packed: bytes = msgpack.packb(value, default=_pack_numpy)
    except ServeError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise ServeError(f"cannot encode a message: {error}; send maps, lists, numbers, strings and arrays") from None
    return packed


def unpack(
    data: bytes, *, depth: int = MAX_DEPTH, rank: int = MAX_RANK, items: int = MAX_ITEMS, copy: bool = True
) -> Any:
    """Decode what `pack` or an openpi client wrote; `ServeError` says what is wrong.

    Arrays are writable copies, or, without ``copy``, views that may only be read.
    """
    guard = _Guard(rank, items, copy)
    try:
        value = msgpack.unpackb(
            data,
            object_hook=guard.map_hook,
            list_hook=guard.list_hook,
            ext_hook=_refuse_ext,
            max_array_len=items,
            max_map_len=items,
            max_ext_len=0,
        )
    except ServeError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = str(error) or type(error).__name__  # msgpack's StackError, for one, carries no text
        raise ServeError(
            f"message: expected one msgpack value, got {len(data)} bytes that are not ({reason})"
        ) from None
    _check_depth(value, depth, depth)
    return value


class _Guard:
    """Counts what one message makes, so that a few megabytes cannot become gigabytes."""

    def __init__(self, rank: int, most: int, copy: bool) -> None:
        self._rank, self._most, self._copy = rank, most, copy
        self.items = 0

    def map_hook(self, value: dict[Any, Any]) -> Any:
        self._count(len(value))
        if b"__ndarray__" in value:
            return _unpack_array(value, self._rank, self._copy)
        if b"__npgeneric__" in value:
            return _unpack_generic(value)
        return value

    def list_hook(self, value: list[Any]) -> list[Any]:
        self._count(len(value))
        return value

    def _count(self, entries: int) -> None:
        self.items += 1 + entries
        if self.items > self._most:
            raise ServeError(
                f"message: expected at most {self._most} elements in all, got more; send numbers as arrays"
            )


def _check_depth(value: Any, left: int, most: int) -> None:
    if not isinstance(value, dict | list):
        return
    if left == 0:
        raise ServeError(f"message: expected at most {most} lists and maps within each other, got more")
    for item in value.values() if isinstance(value, dict) else value:
        _check_depth(item, left - 1, most)


def _pack_numpy(value: Any) -> Any:
    if not isinstance(value, np.ndarray | np.generic):
        raise ServeError(f"cannot encode a value of type {type(value).__name__}; {_allowed()}")
    dtype = value.dtype.str
    if dtype not in DTYPES:
        raise ServeError(f"cannot encode dtype {dtype}; {_allowed()}")
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": dtype}
    _check_shape(value.shape, MAX_RANK)
    return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": dtype, b"shape": value.shape}


def _unpack_array(value: Mapping[Any, Any], rank: int, copy: bool) -> NDArray[Any]:
    if value.keys() != _NDARRAY_KEYS:
        raise ServeError(f"array: expected the keys data, dtype and shape, got {len(value)} keys that are not these")
    data, shape = value[b"data"], value[b"shape"]
    dtype = _dtype(value[b"dtype"])
    if not isinstance(shape, list) or not all(type(n) is int for n in shape):
        raise ServeError("array shape: expected a list of integers, got something else")
    _check_shape(tuple(shape), rank)
    if not isinstance(data, bytes):
        raise ServeError(f"array data: expected bytes, got {type(data).__name__}")
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise ServeError(
            f"array data: expected {expected} bytes for shape {tuple(shape)} of {dtype.str}, got {len(data)}"
        )
    array: NDArray[Any] = np.ndarray(tuple(shape), np.uint8 if dtype.kind == "b" else dtype, data)
    array = array.copy() if copy else array
    if dtype.kind != "b":
        return array
    if array.size and array.max() > 1:
        raise ServeError("array data: expected bytes 0 or 1 for dtype |b1, got others")
    return array.view(np.bool_)


def _unpack_generic(value: Mapping[Any, Any]) -> np.generic:
    if value.keys() != _GENERIC_KEYS:
        raise ServeError(f"scalar: expected the keys data and dtype, got {len(value)} keys that are not these")
    data, dtype = value[b"data"], _dtype(value[b"dtype"])
    wanted = {"b": (bool,), "u": (int,), "i": (int,), "f": (int, float)}[dtype.kind]
    if type(data) not in wanted:
        raise ServeError(f"scalar of {dtype.str}: expected {wanted[-1].__name__}, got {type(data).__name__}")
    if dtype.kind in "ui" and not np.iinfo(dtype).min <= data <= np.iinfo(dtype).max:
        raise ServeError(f"scalar of {dtype.str}: expected a value in its range, got {data}")
    with np.errstate(over="ignore"):
        scalar: np.generic = dtype.type(data)
    return scalar


def _dtype(name: Any) -> np.dtype[Any]:
    if not isinstance(name, str) or name not in DTYPES:
        got = repr(name[:16]) if isinstance(name, str) else type(name).__name__
        raise ServeError(f"array dtype: expected one of {', '.join(DTYPES)}, got {got}")
    return DTYPES[name]


def _check_shape(shape: tuple[int, ...], rank: int) -> None:
    if len(shape) > rank:
        raise ServeError(f"array shape: expected at most {rank} dimensions, got {len(shape)}")
    if any(n < 0 or n > MAX_DIM for n in shape):
        raise ServeError(f"array shape: expected sizes from 0 to {MAX_DIM}, got {shape}")


def _refuse_ext(code: int, _data: bytes) -> Any:
    raise ServeError(f"message: expected no msgpack extension types, got one with code {code}")


def _allowed() -> str:
    return f"allowed are numbers, strings, bytes, lists, maps and arrays of {', '.join(DTYPES)}"
