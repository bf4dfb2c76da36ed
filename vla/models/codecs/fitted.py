"""What a codec takes from data, and how it reads that back from a contract: JSON that may be damaged."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vla.core.errors import ContractError

MOST_STEPS = 4096
"""Of a chunk, and dimensions of a step: a contract that says more is damaged, or means harm."""


def fitting_chunks(chunks: Float[Tensor, "w h d"]) -> Float64[np.ndarray, "w h d"]:
    """The chunks that a codec is fitted to; none, or numbers that are not finite, are a `ContractError`."""
    if chunks.ndim != 3 or not chunks.numel():
        raise ContractError(f"codec: expected chunks (w, h, d) to fit to, at least one, got {tuple(chunks.shape)}")
    values: np.ndarray = chunks.double().cpu().numpy()
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ContractError(f"codec: {bad} of {values.size} numbers to fit to are not finite; repair the dataset")
    return values


def fitted_value(fitted: Mapping[str, Any], key: str) -> Any:
    """A value that `fit` left in a contract; a missing one is a `ContractError`."""
    if key not in fitted:
        raise ContractError(f"codec: the contract lacks {key!r} of what was fitted to the data; it is damaged")
    return fitted[key]


def fitted_whole(fitted: Mapping[str, Any], key: str, *, least: int, most: int = 2**20) -> int:
    """A whole number within bounds, or a `ContractError`."""
    value = fitted_value(fitted, key)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _damaged(key, f"a whole number from {least} to {most}", value)
    return value


def fitted_number(fitted: Mapping[str, Any], key: str, *, least: float, most: float) -> float:
    """A number within bounds, or a `ContractError`."""
    value = fitted_value(fitted, key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise _damaged(key, f"a number from {least:g} to {most:g}", value)
    return float(value)


def fitted_array(fitted: Mapping[str, Any], key: str, *shape: int | None) -> Float[Tensor, "..."]:
    """Finite float32 numbers of this shape, in which None stands for any size but 0; or a `ContractError`."""
    value = fitted_value(fitted, key)
    expected = f"finite numbers of shape ({', '.join('any' if n is None else str(n) for n in shape)})"
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise _damaged(key, expected, value) from None
    fits = array.ndim == len(shape) and all(n in (None, m) and m for n, m in zip(shape, array.shape, strict=True))
    if not fits:
        raise _damaged(key, expected, f"shape {array.shape}")
    if not np.isfinite(array).all():
        raise _damaged(key, expected, "some that are not")
    return torch.from_numpy(array)


def plain(values: Any, decimals: int) -> Any:
    """Nested lists of numbers of so many decimals: short to write, and read back as the same float32."""
    return np.round(np.asarray(values, np.float64), decimals).tolist()


def _damaged(key: str, expected: str, got: Any) -> ContractError:
    return ContractError(f"codec: {key!r} in the contract: expected {expected}, got {str(got)[:80]}; it is damaged")
