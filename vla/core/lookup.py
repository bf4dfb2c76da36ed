"""Names to things: one function that looks a name up and answers an unknown one with the list and a suggestion.

A table is a dict written by hand beside the interface. Where a ``group`` is given, users' own things count too, without
an edit of ours: what an installed package offers under that entry point group, and ``module:Name``, imported as it is.
"""

import difflib
import importlib
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, cast

from vla.core.errors import UnknownNameError

T = TypeVar("T")


def lookup(kind: str, name: str, table: Mapping[str, T], *, group: str = "", listed_by: str = "") -> T:
    """Return what ``name`` stands for, or raise `UnknownNameError` that lists what exists and guesses what was meant.

    ``group`` is an entry point group such as ``vla.policies``; a name in ``table`` wins over one of a package.
    ``listed_by`` is the command that lists the names where they are too many for a line.
    """
    if name in table:
        return table[name]
    if group and ":" in name:
        return cast(T, _import(kind, name))
    offered = _offered(group)
    if name in offered:
        return cast(T, _load(kind, offered[name]))
    known = sorted([*table, *offered])
    close = similar(name, known)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    own = f", and module:Name, or the entry points {group!r} of a package, for your own" if group else ""
    all_of_them = f"{listed_by} lists the {len(known)} that are known" if listed_by else f"known: {', '.join(known)}"
    raise UnknownNameError(f"unknown {kind} {name!r}: {hint}{all_of_them}{own}")


def similar(name: str, known: Sequence[str], *, most: int = 3) -> list[str]:
    """Which of the known names are spelled like ``name``; else those of which it is a part."""
    lower = {other.lower(): other for other in known}
    close = [lower[found] for found in difflib.get_close_matches(name.lower(), lower, n=1)]
    return close or [other for other in known if len(name) > 2 and name.lower() in other.lower()][:most]


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
    except Exception as error:  # whatever a module of a user's does when it is imported
        reason = str(error) if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
        raise UnknownNameError(
            f"{kind} {name!r} cannot be imported ({reason}); module:Name wants an importable module and a name in it"
        ) from error
    return found


def _load(kind: str, point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        origin = point.dist.name if point.dist else "a package"
        raise UnknownNameError(f"{kind} {point.name!r} of {origin} cannot be loaded: {error}") from error
