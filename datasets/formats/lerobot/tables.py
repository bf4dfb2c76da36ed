"""Reading the small files of a LeRobot dataset, and its path templates, with errors that name the file."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from vla.core.errors import DatasetError

INFO = "meta/info.json"


def fill(root: Path, template: Any, **values: Any) -> str:
    """A path within the dataset from a template of ``info.json``."""
    try:
        path = str(template).format(**values)
    except (KeyError, IndexError, ValueError, AttributeError):
        path = ""
    parts = PurePosixPath(path)
    if template is None or not path or parts.is_absolute() or ".." in parts.parts:
        raise DatasetError(f"{root / INFO}: expected a path template within the dataset, got {template!r}")
    return path


def read_json(path: Path) -> Any:
    """Any JSON value; a missing or damaged file is a `DatasetError`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing; is {path.parent.parent} the folder of a LeRobot dataset?") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: expected JSON, got {error}; the file is damaged: download it again") from None


def read_lines(path: Path, keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, each with these keys; others are a `DatasetError`."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing; download the whole dataset") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {error}; the file is damaged: download it again") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DatasetError(f"{path}:{number}: expected JSON, got {error}; the file is damaged") from None
        if not isinstance(row, dict) or any(key not in row for key in keys):
            raise DatasetError(f"{path}:{number}: expected an object with {', '.join(keys)}; the file is damaged")
        yield row


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """A pyarrow.parquet.ParquetFile; a missing or damaged file is a `DatasetError`, also while it is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing; download the whole dataset") from None
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(
            f"{path}: not a readable parquet file ({error}); the recording was not finished, or the copy is damaged"
        ) from None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """A parquet table without its columns of statistics; a missing or damaged file is a `DatasetError`."""
    with open_parquet(path) as file:
        columns = [name for name in file.schema_arrow.names if not name.startswith("stats/")]
        rows: list[dict[str, Any]] = file.read(columns=columns).to_pylist()
    return rows
