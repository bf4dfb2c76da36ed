"""Names to things: one function that looks a name up and answers an unknown one with the list and a suggestion.

A table is a dict written by hand beside the interface. Where a ``group`` is given, users' own things count too, without
an edit of ours: what an installed package offers under that entry point group, and ``module:Name``, imported as it is.
"""

import difflib
import importlib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, cast

from vla.core.errors import UnknownNameError

T = TypeVar("T")


def lookup(kind: str, name: str, table: Mapping[str, T], *, group: str = "") -> T:
    """Return what ``name`` stands for, or raise `UnknownNameError` that lists what exists and guesses what was meant.

    ``group`` is an entry point group such as ``vla.policies``; a name in ``table`` wins over one of a package.
    """
    if name in table:
        return table[name]
    if group and ":" in name:
        return cast(T, _import(kind, name))
    offered = _offered(group)
    if name in offered:
        return cast(T, _load(kind, offered[name]))
    known = sorted([*table, *offered])
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    own = f", and module:Name, or the entry points {group!r} of a package, for your own" if group else ""
    raise UnknownNameError(f"unknown {kind} {name!r}: {hint}known: {', '.join(known)}{own}")


def known_names(table: Mapping[str, Any], *, group: str) -> list[str]:
    """The names of the table, then those that installed packages add."""
    return [*table, *sorted(_offered(group).keys() - table.keys())]


def _offered(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)} if group else {}


def _import(kind: str, name: str) -> Any:
    """``module:Name``; a module that is not there and one that fails are told apart."""
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownNameError(
            f"{kind} {name!r} cannot be imported ({error}); module:Name wants an importable module and a name in it"
        ) from error
    return found


def _load(kind: str, point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        origin = point.dist.name if point.dist else "a package"
        raise UnknownNameError(f"{kind} {point.name!r} of {origin} cannot be loaded: {error}") from error
