"""The arrays of an HDF5 group, by their paths: what a stranger's file may hold in their place is named.

A name in HDF5 is a link: to an object, to a path (soft), or to a path in another file (external), and may lead nowhere
or back. An array may lie in other files too (virtual, raw), hold no numbers, or have parts that nobody wrote, which
HDF5 fills in without a word. Links are followed within the folder of the file; other files of this machine are none of
a recording's business.
"""

import contextlib
import math
import os
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.errors import DatasetError
from vla.datasets.formats.robomimic.filters import missing_filters

_MOST_NAMES = 2_000
"""Of one group with all below it: links to links can make of a few bytes more names than anybody reads."""


class UnreadableError(ValueError):
    """Why a name leads to nothing that can be read; callers say where."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """What lies below a group."""

    arrays: dict[str, Any] = field(default_factory=dict)
    """Arrays of numbers with at least one axis, by path."""
    texts: dict[str, Any] = field(default_factory=dict)
    """Arrays, and single values, of text."""
    left: dict[str, str] = field(default_factory=dict)
    """Why each of the others is neither."""


def walk(group: Any, into: Container[str] | None = None) -> Tree:
    """Every array below ``group``, links followed; of groups directly in it only those named ``into`` are entered."""
    tree = Tree()
    _walk(group, "", (_identity(group),), tree, [], into)
    return tree


def resolve(group: Any, path: str) -> Any:
    """The array of numbers at a path; what is not one is an `UnreadableError`."""
    import h5py

    item = group
    for name in path.split("/"):
        if not isinstance(item, h5py.Group) or name not in list(item):
            raise UnreadableError("it is not there")
        item = member(item, name)
    if not isinstance(item, h5py.Dataset):
        raise UnreadableError("a group or a type, not an array")
    if oddity := _oddity(item):
        raise UnreadableError(oddity)
    return item


def _walk(
    group: Any,
    prefix: str,
    above: tuple[tuple[int, int], ...],
    tree: Tree,
    names: list[str],
    into: Container[str] | None = None,
) -> None:
    import h5py

    for name in group:
        path = prefix + name
        names.append(path)
        if len(names) > _MOST_NAMES:
            raise UnreadableError(f"it has more than {_MOST_NAMES:,} names; links multiply them: write it without")
        try:
            item = member(group, name)
        except UnreadableError as error:
            tree.left[path] = str(error)
            continue
        if isinstance(item, h5py.Group):
            identity = _identity(item)
            if into is not None and name not in into:
                tree.left[path] = f"a group of {len(item)} names, which is not read"
            elif identity in above:
                tree.left[path] = f"a link back to {item.name}, a group that it is in"
            else:
                _walk(item, f"{path}/", (*above, identity), tree, names)
        elif not isinstance(item, h5py.Dataset):
            tree.left[path] = "a type, not an array"
        elif (oddity := _oddity(item)) is None:
            tree.arrays[path] = item
        elif oddity == "text":
            tree.texts[path] = item
        else:
            tree.left[path] = oddity


def member(group: Any, name: str) -> Any:
    """The object that a name leads to; what leads nowhere, or out of the file's folder, is an `UnreadableError`."""
    import h5py

    try:
        link = group.get(name, getlink=True)
    except TypeError:
        raise UnreadableError("a link of a kind of its own, which only the program that made it follows") from None
    words = "damaged"
    if isinstance(link, h5py.SoftLink):
        words = f"a link to {link.path}"
    elif isinstance(link, h5py.ExternalLink):
        words = f"a link to {link.path} in {link.filename}"
        _beside(group, link.filename, words)
    try:
        return group[name]
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        reason = "which is not there" if "not found" in str(error) else _words(error)
        raise UnreadableError(f"{words}, {reason}" if words != "damaged" else f"damaged: {_words(error)}") from None


def read_rows(array: Any) -> np.ndarray:
    """The whole array; filters that are missing, and parts that nobody wrote, are an `UnreadableError`."""
    if missing := missing_filters(array):
        raise UnreadableError(missing)
    if unwritten := _unwritten(array):
        raise UnreadableError(unwritten)
    try:
        return np.asarray(array[()])
    except (OSError, RuntimeError, ValueError) as error:
        raise UnreadableError(f"damaged: {_words(error)}") from None


@contextlib.contextmanager
def located(where: str) -> Iterator[None]:
    """Make what goes wrong inside a `DatasetError` that says where."""
    try:
        yield
    except UnreadableError as error:
        raise DatasetError(f"{where}: {error}") from None
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
        raise DatasetError(f"{where}: damaged: {_words(error)}") from None


def _oddity(array: Any) -> str | None:
    """Why an array is not one of numbers; None where it is."""
    import h5py

    try:
        dtype = array.dtype
    except (TypeError, ValueError) as error:
        return f"of a type that NumPy has not ({_words(error)})"
    if array.shape is None:
        return "an array without a shape or values"
    if h5py.check_string_dtype(dtype) is not None:
        return "text"
    if not array.shape:
        return "a single value, not one for each step"
    if array.external:
        return f"an array whose numbers lie in the raw file {array.external[0][0]!r}; h5repack puts them into this one"
    if h5py.check_vlen_dtype(dtype) is not None:
        return "lists of any length (perhaps packed pictures): write one array of equal rows"
    if h5py.check_ref_dtype(dtype) is not None:
        return "references to other objects"
    if dtype.names is not None:
        return f"records of {', '.join(dtype.names)}: write an array for each"
    names = h5py.check_enum_dtype(dtype)
    if names is not None and dtype.kind != "b":
        return f"numbers that stand for names ({', '.join(map(str, names))})"
    if dtype.kind not in "fiub":
        return f"{dtype}, not numbers"
    return None


def _unwritten(array: Any) -> str | None:
    """What HDF5 would fill in, because it was never written or lies in a file that is not there."""
    import h5py

    if array.is_virtual:
        return _virtual(array)
    if not array.size:
        return None
    if array.chunks is None:
        written = array.id.get_space_status() != h5py.h5d.SPACE_STATUS_NOT_ALLOCATED
        return None if written else "made, and never written: HDF5 would give its fill value"
    expected = math.prod(-(-rows // chunk) for rows, chunk in zip(array.shape, array.chunks, strict=True))
    there = array.id.get_num_chunks()
    if there < expected:
        return f"{expected - there} of {expected} chunks were never written: HDF5 would give its fill value"
    return None


def _virtual(array: Any) -> str | None:
    """Where a part of a virtual array comes from no file, or from one that is not as it was."""
    covered = 0
    for source in array.virtual_sources():
        words = f"virtual, from {source.dset_name} in {source.file_name}"
        with contextlib.ExitStack() as stack:
            file = array.file
            if source.file_name != ".":
                import h5py

                path = _beside(array, source.file_name, words)
                file = stack.enter_context(h5py.File(path, "r", locking="best-effort"))
            origin = file.get(source.dset_name)
            if origin is None:
                return f"{words}, which is not there"
            promised = source.src_space.shape or None  # None: all of it, as it was then
            if promised is not None and origin.shape != promised:
                return f"{words}, which has the shape {origin.shape} instead of {promised}"
            if promised is None and origin.size != source.vspace.get_select_npoints():
                return f"{words}, which has {origin.size} numbers instead of {source.vspace.get_select_npoints()}"
            if (inner := missing_filters(origin)) or (inner := _unwritten(origin)):
                return f"{words}: {inner}"
        covered += source.vspace.get_select_npoints()
    if covered < array.size:
        return f"virtual, and {array.size - covered} of {array.size} numbers come from nowhere"
    return None


def _beside(item: Any, name: str, words: str) -> Path:
    """The path of another file that ``item`` names; outside the folder of its own, and missing, are refused."""
    folder = Path(os.path.abspath(item.file.filename)).parent
    path = Path(os.path.normpath(folder / name))
    if not path.is_relative_to(folder):
        raise UnreadableError(f"{words}, outside the folder of the file: put that file beside it, and link its name")
    if not path.is_file():
        raise UnreadableError(f"{words}, which is not there: put that file beside it")
    return path


def _identity(item: Any) -> tuple[int, int]:
    """The same for two names of one object, as long as both are open."""
    import h5py

    info = h5py.h5o.get_info(item.id)
    return int(info.fileno), int(info.addr)


def same(one: Any, other: Any) -> bool:
    """Whether two names lead to one object."""
    return _identity(one) == _identity(other)


def first_text(group: Any, names: tuple[str, ...]) -> str | None:
    """The text at the first of ``names`` that is text: one value, or many that are the same; None if they differ."""
    import h5py

    there = set(group)
    for name in names:
        item = member(group, name) if name in there else None
        if isinstance(item, h5py.Dataset) and _oddity(item) == "text":
            values = {v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in np.ravel(read_rows(item))}
            return values.pop() if len(values) == 1 else None
    return None


def _words(error: Exception) -> str:
    """HDF5's reason on one line: what stands in its parentheses, without its addresses."""
    text = " ".join(str(error).strip("'\"").split())
    return text[text.index("(") + 1 :].removesuffix(")") if "(" in text else text
