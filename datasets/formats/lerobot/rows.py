"""The frames of one episode of a LeRobot dataset: rows of a parquet file as arrays."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from vla.core.errors import DatasetError
from vla.datasets.formats.lerobot.meta import Entry, Feature, Meta
from vla.datasets.formats.lerobot.tables import open_parquet
from vla.datasets.formats.pictures import PictureError, decode_picture

_IMAGE_PATHS = (
    "images/{key}/episode_{episode:06d}/frame_{frame:06d}.png",
    "images/{key}/episode-{episode:06d}/frame-{frame:06d}.png",
)
"""Where recorders leave pictures that they did not embed."""


def read_frames(path: Path, entry: Entry, columns: Sequence[str]) -> Any:
    """A pyarrow table with the frames of one episode, in order; other counts than promised are a `DatasetError`."""
    import pyarrow.compute as pc

    if entry.length < 1:
        raise DatasetError(f"{path}: episode {entry.index} has no frames; remove it from the dataset")
    with open_parquet(path) as file:
        present = file.schema_arrow.names
        wanted = [name for name in columns if name in present]
        groups = _row_groups(file, entry.index)
        table = file.read_row_groups(groups, columns=wanted)
    if "episode_index" in wanted:
        table = table.filter(pc.equal(table["episode_index"], entry.index))
    if table.num_rows != entry.length:
        raise DatasetError(
            f"{path}: expected {entry.length} frames of episode {entry.index}, got {table.num_rows}; "
            "data and meta folders do not belong together: download the dataset again"
        )
    numbers = column(table, "frame_index")
    if numbers is not None and not np.array_equal(np.asarray(numbers).ravel(), np.arange(entry.length)):
        raise DatasetError(
            f"{path}: episode {entry.index}: expected frame_index 0 to {entry.length - 1} in order; "
            "frames are missing or mixed: download the dataset again"
        )
    return table


def _row_groups(file: Any, episode: int) -> list[int]:
    """The row groups that may hold the episode, by their statistics: others are not read."""
    names = file.schema_arrow.names
    if "episode_index" not in names:
        return list(range(file.metadata.num_row_groups))
    chosen = []
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        part = next(p for i in range(group.num_columns) if (p := group.column(i)).path_in_schema == "episode_index")
        limits = part.statistics
        if limits is None or not limits.has_min_max or limits.min <= episode <= limits.max:
            chosen.append(number)
    return chosen


def column(table: Any, name: str) -> np.ndarray | None:
    """A column of single numbers, or None where the table has none."""
    if name not in table.column_names:
        return None
    return _flat(table[name])


def vectors(table: Any, features: Sequence[Feature], path: Path, entry: Entry) -> Float32[np.ndarray, "t d"]:
    """Columns side by side; missing ones, other widths and numbers that are not finite are a `DatasetError`."""
    parts = [np.empty((entry.length, 0), np.float32)]
    for feature in features:
        if feature.key not in table.column_names:
            raise DatasetError(
                f"{path}: expected a column {feature.key!r}, got {table.column_names}; download it again"
            )
        values = np.asarray(_flat(table[feature.key]))
        if values.size != entry.length * feature.width or values.dtype.kind not in "fiub":
            raise DatasetError(
                f"{path}: episode {entry.index}: expected {feature.width} numbers of {feature.key} in each frame, "
                f"got {values.size} {values.dtype} in {entry.length} frames; missing values cannot be read"
            )
        rows = values.reshape(entry.length, feature.width).astype(np.float32)
        if not np.isfinite(rows).all():
            step, place = np.argwhere(~np.isfinite(rows))[0]
            raise DatasetError(
                f"{path}: episode {entry.index}, step {step}: {feature.key}[{place}] is {rows[step, place]}, expected "
                "a finite number; drop the episode or repair the recording"
            )
        parts.append(rows)
    return np.concatenate(parts, axis=1)


def scan_limits(root: Path, meta: Meta, feature: Feature) -> tuple[list[float], list[float]]:
    """The least and greatest of each number over all frames, for datasets without statistics."""
    low, high = np.full(feature.width, np.inf), np.full(feature.width, -np.inf)
    for entry in meta.episodes:
        path = root / entry.data
        rows = vectors(read_frames(path, entry, (feature.key, "episode_index")), (feature,), path, entry)
        low, high = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
    return low.tolist(), high.tolist()


def _flat(values: Any) -> np.ndarray:
    """All numbers of a column of numbers, lists, or lists of lists; missing ones become NaN or objects."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = values.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        array = pc.list_flatten(array)
    result: np.ndarray = array.to_numpy(zero_copy_only=False)
    return result


def pictures(
    table: Any, key: str, root: Path, entry: Entry, shape: tuple[int, int, int]
) -> UInt8[np.ndarray, "t y x 3"]:
    """Pictures that are embedded as ``{bytes, path}``, or lie in the folder ``images``."""
    rows = table[key].to_pylist() if key in table.column_names else [None] * entry.length
    frames = np.empty((entry.length, *shape), np.uint8)
    for step, row in enumerate(rows):
        data = _picture(row, key, root, entry, step)
        try:
            pixels = decode_picture(data)
        except PictureError as error:
            raise DatasetError(
                f"{root}: episode {entry.index}, step {step}: the picture {key}: {error}; "
                "the dataset is damaged: download it again"
            ) from None
        if pixels.shape != shape:
            raise DatasetError(
                f"{root}: episode {entry.index}, step {step}: expected a picture {shape} of {key}, got {pixels.shape}; "
                f"correct the shape of the feature in meta/info.json"
            )
        frames[step] = pixels
    return frames


def _picture(row: Any, key: str, root: Path, entry: Entry, step: int) -> bytes:
    """One picture as a file, embedded or in the folder ``images``."""
    if isinstance(row, bytes):
        return row
    if isinstance(row, dict) and row.get("bytes"):
        return bytes(row["bytes"])
    places = [template.format(key=key, episode=entry.index, frame=step) for template in _IMAGE_PATHS]
    written = row.get("path") if isinstance(row, dict) else None
    if isinstance(written, str) and ".." not in Path(written).parts:
        places.insert(0, written)
    for place in places:
        if not Path(place).is_absolute() and (root / place).is_file():
            return (root / place).read_bytes()
    raise DatasetError(
        f"{root}: episode {entry.index}, step {step}: expected a picture of {key} in the parquet file or in "
        f"{places[-2]}, got none; download the whole dataset"
    )
