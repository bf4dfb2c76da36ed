"""Opening a replay buffer, and reading rows of it: what cannot be opened or decoded is named with its cause."""

import contextlib
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vla.core.errors import DatasetError
from vla.core.media.signatures import cause_of

ENDS = "meta/episode_ends"
_DESCRIPTIONS = ("zarr.json", ".zarray")
"""Of an array of version 3, and of version 2."""
_FOREIGN = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, EOFError, zlib.error)
"""What zarr, codecs and zip files raise for damage."""


def holds_buffer(path: Path) -> bool:
    """Whether the ends of episodes are there, also if their description or the end of the archive is lost.

    Opening it then says so.
    """
    if path.is_dir():
        return (path / ENDS).is_dir() and (path / "data").is_dir()
    return _root_in_zip(path) is not None or (path.name.endswith(".zarr.zip") and _is_cut(path))


@contextlib.contextmanager
def open_buffer(path: Path) -> Iterator[Any]:
    """The root group; what cannot be opened or decoded, here or while it is read, is a `DatasetError`."""
    import zarr
    import zarr.errors
    from zarr.storage import LocalStore, ZipStore

    from vla.datasets.formats.diffusion_policy.checked_store import CheckedStore, StoreError

    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    root = "" if path.is_dir() else _root_in_zip(path)
    if root is None or (path.is_dir() and not holds_buffer(path)):
        raise DatasetError(f"{path}: {_not_a_buffer(path)}")
    version: Literal[2, 3] = 3 if any("zarr.json" in _files(path, root, at) for at in ("", ENDS)) else 2
    if lost := _lost(path, root, version):
        raise DatasetError(f"{path}: {lost}")
    try:
        with LocalStore(path, read_only=True) if path.is_dir() else ZipStore(path, mode="r") as store:
            _register_codecs()
            yield zarr.open_group(
                CheckedStore(store), path=root or None, mode="r", zarr_format=version, use_consolidated=False
            )
    except StoreError as error:
        raise DatasetError(f"{path}: {error}") from None
    except DatasetError:
        raise
    except (zarr.errors.BaseZarrError, zipfile.BadZipFile, *_FOREIGN) as error:
        raise DatasetError(f"{path}: not a readable Zarr store of version {version}: {_reason(error)}") from None


def arrays_below(root: Any, path: Path) -> dict[str, Any]:
    """Every array of ``data``, also of groups within it, by path; one whose description is lost is a `DatasetError`."""
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr warns of what is no part of it, such as a folder's notes
        members = dict(root["data"].members(max_depth=None))
    inner = "" if path.is_dir() else _root_in_zip(path) or ""
    for name in sorted(_folders(path, inner, "data") - set(members)):
        if name.startswith((".", "__")):  # such as .ipynb_checkpoints
            continue
        version = root.metadata.zarr_format
        raise DatasetError(
            f"{path}: data/{name} has no {'zarr.json' if version == 3 else '.zarray'}: its description was lost, as "
            "copies without hidden files lose it; copy it again, or remove the folder to do without it"
        )
    return {key: item for key, item in members.items() if isinstance(item, zarr.Array)}


def read_rows(array: Any, rows: slice, where: str) -> np.ndarray:
    """Rows of one array; too few, and chunks that are missing or damaged, are a `DatasetError` that says where."""
    if array.shape[0] < rows.stop:
        raise DatasetError(
            f"{where}: expected at least the {rows.stop} rows that {ENDS} promises, got {array.shape[0]}; "
            "the recording was cut short: copy the store again, or leave the episode out"
        )
    try:
        return np.asarray(array[rows])
    except DatasetError as error:
        raise DatasetError(f"{where}: {error}") from None
    except (zipfile.BadZipFile, *_FOREIGN) as error:
        raise DatasetError(f"{where}: cannot be unpacked: {_reason(error)}; copy it again") from None


def _root_in_zip(path: Path) -> str | None:
    """Where in an archive the store begins, which may be a folder of its own; None where there is none."""
    for name in _zip_names(path):
        for description in _DESCRIPTIONS:
            root = name.removesuffix(f"{ENDS}/{description}")
            if root != name and (not root or root.endswith("/")):
                return root.rstrip("/")
    return None


def _zip_names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as file:
            return file.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        return []


def _files(path: Path, root: str, folder: str) -> set[str]:
    """Names of what lies in a folder of the store."""
    if path.is_dir():
        return set(os.listdir(path / folder)) if (path / folder).is_dir() else set()
    inside = "".join(f"{part}/" for part in (root, folder) if part)
    return {name.removeprefix(inside).split("/", 1)[0] for name in _zip_names(path) if name.startswith(inside)}


def _folders(path: Path, root: str, folder: str) -> set[str]:
    """Those of them that are folders."""
    if path.is_dir():
        return {name for name in _files(path, root, folder) if (path / folder / name).is_dir()}
    return {name for name in _files(path, root, folder) if _files(path, root, f"{folder}/{name}") - {""}}


def _lost(path: Path, root: str, version: int) -> str | None:
    """Which description is missing, as copies that leave out hidden files lose them."""
    group = "zarr.json" if version == 3 else ".zgroup"
    for folder, name in (("", group), ("data", group), ("meta", group), (ENDS, _DESCRIPTIONS[version == 2])):
        if name not in _files(path, root, folder):
            place = f"{folder}/{name}".lstrip("/")
            return f"{place} is missing; copies that leave out hidden files lose it: copy the store again"
    return None


def _not_a_buffer(path: Path) -> str:
    """What is there instead."""
    if not path.is_dir() and not zipfile.is_zipfile(path):
        if _is_cut(path):
            return "the zip archive is cut short (its list, at the end, is not there): copy it again"
        if cause := cause_of(path, "a Zarr store"):
            return cause
    names = os.listdir(path) if path.is_dir() else {name.split("/", 1)[0] for name in _zip_names(path)}
    return f"expected a Zarr store with data and {ENDS}, got one with {', '.join(sorted(names)[:8]) or 'nothing'}"


def _is_cut(path: Path) -> bool:
    """Whether a file begins as a zip archive and does not end as one."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04" and not zipfile.is_zipfile(path)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _register_codecs() -> None:
    """UMI's pictures are JPEG XL: numcodecs knows the codec only after imagecodecs has told it."""
    from numcodecs.registry import codec_registry

    if "imagecodecs_jpegxl" in codec_registry:
        return
    with contextlib.suppress(ModuleNotFoundError):
        from imagecodecs.numcodecs import register_codecs

        register_codecs(verbose=False)
