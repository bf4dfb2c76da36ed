"""One layer for one new token as one compiled function, for CPUs.

There the steps between its products are too short for operations of their own. With one row a product is as fast as its
matrix is read, so it is a loop here too. What is computed is what `vla.models.trunk.block` computes, in float32; sums
may be added in any order.
"""

from typing import no_type_check

import numpy as np
from jaxtyping import Float32

from vla.core.machine.compiling import compiled

_LOOSE = {"reassoc", "contract", "nsz"}
"""Sums in any order, so that they fill vectors; infinities and NaN stay what they are."""
_inlined = compiled(fastmath=_LOOSE)
# Other threads run meanwhile, as they do during operations of PyTorch.
_called = compiled(fastmath=_LOOSE, nogil=True)


@_called
@no_type_check
def layer(
    x: Float32[np.ndarray, "b e"],
    norms: Float32[np.ndarray, " n"],
    qkv: Float32[np.ndarray, "r e"],
    out: Float32[np.ndarray, "e hc"],
    gate: Float32[np.ndarray, "m e"],
    up: Float32[np.ndarray, "m e"],
    down: Float32[np.ndarray, "e m"],
    held: Float32[np.ndarray, "b 2k l c"],
    bias: Float32[np.ndarray, "b l"],
    turn: Float32[np.ndarray, "2 c"],
    place: int,
    eps: float,
    silu: bool,
) -> None:
    """Read the token at ``place``, whose rows ``x`` become what the layer makes of them; keys and values are kept.

    ``norms`` are the scales of the norms before attention and before the MLP and, where there are such, those of a
    query and of a key. ``up`` is empty where nothing is gated, ``turn`` where nothing is turned.
    """
    b, e = x.shape
    size = held.shape[3]
    keys = held.shape[1] // 2
    heads = len(qkv) // size - 2 * keys
    seen = np.empty((b, e), np.float32)
    rows = np.empty((b, len(qkv)), np.float32)
    read = np.zeros((b, heads * size), np.float32)
    for n in range(b):
        _scale(x[n], norms[:e], eps, seen[n])
    _multiply(seen, qkv, rows)
    for n in range(b):
        for i in range(heads + keys):
            channels = rows[n, i * size : (i + 1) * size]
            if len(norms) > 2 * e:
                first = 2 * e if i < heads else 2 * e + size
                _scale(channels, norms[first : first + size], eps, channels)
            if len(turn):
                _turn(channels, turn)
        for i in range(2 * keys):
            held[n, i, place] = rows[n, (heads + i) * size : (heads + i + 1) * size]
        for i in range(heads):
            k = i // (heads // keys)
            here = slice(i * size, (i + 1) * size)
            _attend(rows[n, here], held[n, k], held[n, keys + k], bias[n], place + 1, read[n, here])
    _multiply(read, out, seen)
    x += seen
    for n in range(b):
        _scale(x[n], norms[e : 2 * e], eps, seen[n])
    made = np.empty((b, len(gate)), np.float32)
    _multiply(seen, gate, made)
    for n in range(b):
        for i in range(len(gate)):
            made[n, i] *= _open(made[n, i], silu)
    if len(up):
        raised = np.empty_like(made)
        _multiply(seen, up, raised)
        made *= raised
    _multiply(made, down, seen)
    x += seen


@_called
@no_type_check
def norm(x: Float32[np.ndarray, "b e"], weight: Float32[np.ndarray, " e"], eps: float) -> None:
    """Scale rows to a root mean square of 1, then by the weight."""
    for n in range(len(x)):
        _scale(x[n], weight, eps, x[n])


@_inlined
@no_type_check
def _scale(x: np.ndarray, weight: np.ndarray, eps: float, into: np.ndarray) -> None:
    squares = np.float32(0)
    for i in range(len(x)):
        squares += x[i] * x[i]
    factor = np.float32(1 / np.sqrt(squares / len(x) + eps))
    for i in range(len(x)):
        into[i] = x[i] * factor * weight[i]


@_inlined
@no_type_check
def _multiply(x: np.ndarray, matrix: np.ndarray, into: np.ndarray) -> None:
    """``x @ matrix.T``.

    A row from each quarter of the matrix at once: memory is read faster at four places than at one, and what has been
    read is multiplied by all rows of ``x``.
    """
    quarter, width = len(matrix) // 4, matrix.shape[1]
    for r in range(quarter):
        second, third, fourth = r + quarter, r + 2 * quarter, r + 3 * quarter
        for n in range(len(x)):
            s0 = s1 = s2 = s3 = np.float32(0)
            for i in range(width):
                value = x[n, i]
                s0 += value * matrix[r, i]
                s1 += value * matrix[second, i]
                s2 += value * matrix[third, i]
                s3 += value * matrix[fourth, i]
            into[n, r], into[n, second], into[n, third], into[n, fourth] = s0, s1, s2, s3
    for r in range(4 * quarter, len(matrix)):
        for n in range(len(x)):
            total = np.float32(0)
            for i in range(width):
                total += x[n, i] * matrix[r, i]
            into[n, r] = total


@_inlined
@no_type_check
def _turn(x: np.ndarray, turn: np.ndarray) -> None:
    """See `vla.models.trunk.rotary.rotate`."""
    half = len(x) // 2
    for i in range(half):
        first, second = x[i], x[i + half]
        x[i] = first * turn[0, i] + second * turn[1, i]
        x[i + half] = second * turn[0, i + half] + first * turn[1, i + half]


@_inlined
@no_type_check
def _attend(q: np.ndarray, keys: np.ndarray, values: np.ndarray, bias: np.ndarray, stop: int, into: np.ndarray) -> None:
    """What one query reads of the places before ``stop``; ``into`` comes as zeros."""
    size = len(q)
    scores = np.empty(stop, np.float32)
    scale = np.float32(1 / np.sqrt(size))
    top = -np.float32(np.inf)
    for place in range(stop):
        score = np.float32(0)
        for i in range(size):
            score += q[i] * keys[place, i]
        scores[place] = score * scale + bias[place]
        top = max(top, scores[place])
    total = np.float32(0)
    for place in range(stop):
        scores[place] = np.exp(scores[place] - top)
        total += scores[place]
    for place in range(stop):
        weight = scores[place] / total
        for i in range(size):
            into[i] += weight * values[place, i]


@_inlined
@no_type_check
def _open(x: float, silu: bool) -> float:
    """What the activation multiplies by: both are x times a sigmoid, GELU's tanh as that of twice its argument."""
    z = x if silu else np.float32(1.5957691216) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(1) / (np.float32(1) + np.exp(-z))
