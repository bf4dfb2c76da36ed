"""Documents from strangers: one value is replaced, renamed or dropped, and what reads them has bounds to keep."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from vla.core.errors import VlaError

EXAMPLES = int(os.environ.get("VLA_HOSTILE", "8"))
"""Of each kind of document; ``VLA_HOSTILE=150`` makes hundreds, in minutes."""
ODD = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        10**9,
        10**18,
        10**30,
        1e308,
        -0.5,
        "",
        "../../canary",
        "/etc/passwd",
        "..",
        "a/../../../canary",
        "link",
        "link/canary",
        "\0",
        "\ud7ff\u202e",
        "x" * 5000,
        [],
        {},
        [[]],
        [None] * 50,
        {"a": {"b": {}}},
        {"../canary": {"bytes": 6, "crc32c": "00000000"}},
        {"bytes": 2**50, "crc32c": "00000000"},
    ]
)


HOW = st.sampled_from(["replace", "replace", "rename", "drop"])


def paths_in(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a document."""
    yield prefix
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths_in(item, (*prefix, key))


def spoiled(value: Any, way: tuple[Any, ...], odd: Any, how: str) -> Any:
    """The document with something else at one place: in its stead, under its name, or not there."""
    if not way:
        return odd
    value = json.loads(json.dumps(value))
    place = value
    for key in way[:-1]:
        place = place[key]
    if how == "drop":
        del place[way[-1]]
    elif how == "rename" and isinstance(place, dict):
        place[str(odd)] = place.pop(way[-1])
    else:
        place[way[-1]] = odd
    return value


_opened: list[str] | None = None
"""What has been opened or changed, while somebody watches."""
_EVENTS = frozenset({"open", "os.rename", "os.remove", "os.link", "os.symlink", "os.mkdir", "shutil.rmtree"})


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event in _EVENTS:
        _opened.extend(os.path.realpath(a) for a in arguments[:2] if isinstance(a, str) and a.startswith("/"))


@cache
def _watch() -> None:
    """Once in a process: a hook stays for ever, and each one slows down whatever Python does."""
    sys.addaudithook(_note)


@contextmanager
def within_bounds(root: Path, seconds: float = 3.0) -> Iterator[None]:
    """At most ``seconds`` of work in this thread, little memory, and no file outside of ``root`` but Python's own."""
    global _opened
    _watch()
    opened = _opened = []
    began, before = time.thread_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
    finally:
        _opened = None
    assert time.thread_time() - began < seconds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    outside = [path for path in opened if str(root.parent) in path and not path.startswith(str(root))]
    assert outside == []


def refuse_or_read(act: Callable[[], object]) -> None:
    """Whatever a document says, it is read, or refused in one line of ours."""
    said = ""
    try:
        act()
    except VlaError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 2000


HOSTILE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
