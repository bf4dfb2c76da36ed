"""Names to things: one function that looks a name up and answers an unknown one with the list and a suggestion."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

from vla.core.errors import UnknownNameError

T = TypeVar("T")


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return ``table[name]``, or raise `UnknownNameError` that lists what exists and guesses what was meant."""
    if name in table:
        return table[name]
    close = difflib.get_close_matches(name, table, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UnknownNameError(f"unknown {kind} {name!r}: {hint}known: {', '.join(sorted(table))}")
