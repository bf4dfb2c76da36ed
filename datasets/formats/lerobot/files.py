"""Growing files of a LeRobot dataset: parquet tables and videos that are filled up to a size, then numbered on.

Every file is closed with its footer before the next begins.
"""

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vla.core.media.video import VideoJoiner

CHUNKS_SIZE = 1000
"""Files in a folder."""
DATA_MB, VIDEO_MB = 100, 200
_MB = 1024**2
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"


class ParquetFiles:
    """Tables of one schema in numbered files; each table is a row group of its own."""

    def __init__(self, root: Path, template: str, limit_mb: float | int) -> None:
        self._root, self._template, self._limit = root, template, limit_mb * _MB
        self._writer: Any = None
        self._file: Any = None
        self._rows = 0
        self.chunk = self.file = 0

    def begin(self, rows: int) -> tuple[int, int]:
        """The numbers of the chunk and the file that ``rows`` more rows will go to."""
        if self._writer is not None and self._rows:
            size = self._file.tell()
            if size + size / self._rows * rows >= self._limit:
                self.close()
                self.chunk, self.file = _next(self.chunk, self.file)
        return self.chunk, self.file

    def write(self, table: Any) -> None:
        """Append a table to the file that `begin` named."""
        import pyarrow.parquet as pq

        if self._writer is None:
            path = self._root / self._template.format(chunk_index=self.chunk, file_index=self.file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb")
            self._writer = pq.ParquetWriter(self._file, table.schema, compression="snappy", use_dictionary=True)
        self._writer.write_table(table)
        self._rows += table.num_rows

    def close(self) -> None:
        """Write the footer."""
        if self._writer is not None:
            self._writer.close()
            self._file.close()
        self._writer = self._file = None
        self._rows = 0

    def __enter__(self) -> "ParquetFiles":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class VideoFiles:
    """Videos of one camera joined in numbered files."""

    def __init__(self, root: Path, key: str, rate: Fraction, limit_mb: float | int) -> None:
        self._root, self._key, self._rate, self._limit = root, key, rate, limit_mb * _MB
        self._joiner: VideoJoiner | None = None
        self._chunk = self._file = 0

    def append(self, part: bytes) -> dict[str, Any]:
        """Add the video of an episode; the answer is what the table of episodes says of it."""
        if self._joiner is not None and self._joiner.bytes + len(part) >= self._limit:
            self.close()
            self._chunk, self._file = _next(self._chunk, self._file)
        if self._joiner is None:
            path = self._root / VIDEO_PATH.format(video_key=self._key, chunk_index=self._chunk, file_index=self._file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._joiner = VideoJoiner(path, self._rate)
        first = self._joiner.frames
        end = first + self._joiner.append(part)
        return {
            f"videos/{self._key}/chunk_index": self._chunk,
            f"videos/{self._key}/file_index": self._file,
            # One division each: sums of durations would drift.
            f"videos/{self._key}/from_timestamp": float(first / self._rate),
            f"videos/{self._key}/to_timestamp": float(end / self._rate),
        }

    def close(self) -> None:
        """Write the index of the last file."""
        if self._joiner is not None:
            self._joiner.close()
        self._joiner = None

    def __enter__(self) -> "VideoFiles":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _next(chunk: int, file: int) -> tuple[int, int]:
    return (chunk, file + 1) if file + 1 < CHUNKS_SIZE else (chunk + 1, 0)


def frame_schema(features: Mapping[str, Mapping[str, Any]]) -> Any:
    """The pyarrow schema of the frames, with what the library ``datasets`` needs to know of the columns."""
    import pyarrow as pa

    fields: list[Any] = []
    described: dict[str, dict[str, Any]] = {}
    for key, feature in features.items():
        if feature["dtype"] == "video":
            continue
        if feature["dtype"] == "image":
            fields.append(pa.field(key, pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
            described[key] = {"_type": "Image"}
            continue
        value = {"dtype": feature["dtype"], "_type": "Value"}
        kind = pa.bool_() if feature["dtype"] == "bool" else pa.from_numpy_dtype(np.dtype(feature["dtype"]))
        width = feature["shape"][0]
        if width == 1:
            fields.append(pa.field(key, kind))
            described[key] = value
        else:
            fields.append(pa.field(key, pa.list_(kind, width) if width else pa.list_(kind)))
            described[key] = {"feature": value, "length": width or -1, "_type": "Sequence"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def frame_table(schema: Any, columns: Mapping[str, Any]) -> Any:
    """Arrays (t,) and (t, d), and lists of PNG bytes, as a pyarrow table."""
    import pyarrow as pa

    arrays = []
    for field in schema:
        values = columns[field.name]
        if isinstance(values, list):
            rows = [{"bytes": data, "path": f"frame-{step:06d}.png"} for step, data in enumerate(values)]
            arrays.append(pa.array(rows, field.type))
        elif values.ndim == 1:
            arrays.append(pa.array(values, field.type))
        elif values.shape[1] == 0:
            arrays.append(pa.array([[]] * len(values), field.type))
        else:
            flat = pa.array(np.ascontiguousarray(values).ravel(), field.type.value_type)
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, values.shape[1]))
    return pa.table(arrays, schema=schema)


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """The table of tasks: its pandas index is the text, and the only column its number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def described(name: str, field: str, pandas: str, numpy: str) -> dict[str, Any]:
        return {"name": name, "field_name": field, "pandas_type": pandas, "numpy_type": numpy, "metadata": None}

    pandas = {
        "index_columns": ["task"],
        "column_indexes": [
            {
                **described("", "", "unicode", "object"),
                "name": None,
                "field_name": None,
                "metadata": {"encoding": "UTF-8"},
            }
        ],
        "columns": [
            described("task_index", "task_index", "int64", "int64"),
            described("task", "task", "unicode", "object"),
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    schema = pa.schema([("task_index", pa.int64()), ("task", pa.string())], metadata={"pandas": json.dumps(pandas)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table([range(len(tasks)), list(tasks)], schema=schema), path)
