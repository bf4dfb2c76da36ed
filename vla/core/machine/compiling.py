"""Loops over numbers as machine code, kept from one process to the next where there is a place for it."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

_F = TypeVar("_F", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[_F], _F]:
    """Compile a function by numba when it is first called; ``options`` are those of ``numba.njit``."""

    def compiling(function: _F) -> _F:
        made: Any
        try:
            made = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # nowhere to keep what was compiled
            made = numba.njit(**options)(function)
        kept: _F = made
        return kept

    return compiling
