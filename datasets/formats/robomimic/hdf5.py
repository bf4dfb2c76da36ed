"""Reading HDF5 files of demonstrations: errors that name the file, and attributes as plain values."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vla.core.errors import DatasetError

SIGNATURE = b"\x89HDF\r\n\x1a\n"


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """The open ``h5py.File``; a missing, truncated or damaged one, here or while it is read, is a `DatasetError`."""
    try:
        import h5py
    except ModuleNotFoundError:
        raise DatasetError(f"{path}: HDF5 files need the package h5py: pip install h5py") from None
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            yield file
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist") from None
    except DatasetError:
        raise
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(
            f"{path}: not a readable HDF5 file ({reason}); it is cut short or damaged: copy it again"
        ) from None


def plain(value: Any) -> Any:
    """An attribute as a value that JSON holds."""
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def read_object(attributes: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """A JSON object that is written in an attribute; empty where the attribute is missing."""
    if key not in attributes:
        return {}
    text = plain(attributes[key])
    try:
        value = json.loads(text)
    except (TypeError, ValueError) as error:
        raise DatasetError(
            f"{where}: attribute {key}: expected JSON, got {str(text)[:60]!r} ({error}); the file is damaged"
        ) from None
    if not isinstance(value, dict):
        raise DatasetError(f"{where}: attribute {key}: expected a JSON object, got {type(value).__name__}")
    return value
