"""Reading the small files of a LeRobot dataset, and its path templates, with errors that name the file.

They also keep statistics, which hold the least and greatest number of each feature.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vla.core.errors import DatasetError
from vla.core.media.signatures import cause_of, reading

INFO = "meta/info.json"

Limits = dict[str, tuple[list[float], list[float]]]
"""For each feature the least and the greatest of each of its numbers."""


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
    with reading(path, "a JSON text", ValueError, RecursionError):
        return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path: Path, keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, each with these keys; others are a `DatasetError`."""
    with reading(path, "a JSON text", ValueError):
        lines = path.read_text(encoding="utf-8").split("\n")
    if cause := cause_of(path, "a JSON text"):
        raise DatasetError(f"{path}: {cause}")
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

    with reading(path, "a parquet file", pa.ArrowException), pq.ParquetFile(path) as file:
        yield file


def read_rows(path: Path) -> list[dict[str, Any]]:
    """A parquet table without its columns of statistics; a missing or damaged file is a `DatasetError`."""
    with open_parquet(path) as file:
        columns = [name for name in file.schema_arrow.names if not name.startswith("stats/")]
        rows: list[dict[str, Any]] = file.read(columns=columns).to_pylist()
    return rows


def limits_v21(root: Path) -> Limits:
    """Of all episodes together, from the statistics of each; empty where there are none."""
    path = root / "meta/episodes_stats.jsonl"
    if not path.is_file():
        return {}
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for row in read_lines(path, ("stats",)):
        for key, values in row["stats"].items():
            found[key] += _extremes(values)
    return {
        key: (np.min([low for low, _ in pairs], axis=0).tolist(), np.max([high for _, high in pairs], axis=0).tolist())
        for key, pairs in found.items()
        if len({low.shape for low, _ in pairs}) == 1
    }


def limits_v30(root: Path) -> Limits:
    """From the statistics of the whole; empty where there are none."""
    path = root / "meta/stats.json"
    if not path.is_file():
        return {}
    values = read_json(path)
    return {key: (low.tolist(), high.tolist()) for key in values for low, high in _extremes(values[key])}


def _extremes(values: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """The least and greatest of a feature as flat arrays; nothing where they are missing or not finite."""
    try:
        low, high = (np.asarray(values[key], np.float64).ravel() for key in ("min", "max"))
    except (KeyError, TypeError, ValueError):
        return []
    usable = low.shape == high.shape and bool(np.isfinite(low).all() and np.isfinite(high).all())
    return [(low, high)] if usable else []
