"""The frames of one episode of a LeRobot dataset: rows of a parquet file as arrays."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vla.core.contract import Camera
from vla.core.errors import DatasetError
from vla.datasets.formats.dimensions import Extent, as_rows
from vla.datasets.formats.lerobot.meta import Entry, Feature, Meta
from vla.datasets.formats.lerobot.tables import INFO, open_parquet
from vla.datasets.formats.pictures import PictureError, decode_picture, picture_shape
from vla.datasets.formats.source import Unreadable, attempt

_LOOKED_AT = 20
"""Episodes in which a camera's first picture is looked for."""

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
    numbers = column(table, "frame_index", f"{path}: episode {entry.index}")
    if numbers is not None and not np.array_equal(numbers, np.arange(entry.length)):
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


def column(table: Any, name: str, where: str) -> np.ndarray | None:
    """A column of single numbers (t,), or None where the table has none; other columns are a `DatasetError`."""
    if name not in table.column_names:
        return None
    rows = _matrix(table[name], f"{where}: {name}")
    if rows.shape[1] != 1:
        raise DatasetError(f"{where}: {name}: expected one number for each step, got {rows.shape[1]}")
    return rows[:, 0]


def flags(table: Any, name: str, where: str) -> np.ndarray | None:
    """A column of yes and no: bool (t,), or None; anything but 0 and 1 is a `DatasetError`."""
    values = column(table, name, where)
    if values is not None and (values.dtype.kind not in "fiub" or not np.isin(values, (0, 1)).all()):
        raise DatasetError(f"{where}: {name}: expected true or false, got {values.dtype} {values.tolist()[:5]}")
    return None if values is None else values.astype(bool)


def vectors(table: Any, features: Sequence[Feature], where: str) -> Float32[np.ndarray, "t d"]:
    """Columns side by side; missing ones, other widths and numbers that are lost in 32 bits are a `DatasetError`."""
    parts = [np.empty((table.num_rows, 0), np.float32)]
    for feature in features:
        if feature.key not in table.column_names:
            raise DatasetError(
                f"{where}: expected a column {feature.key!r}, got {table.column_names}; correct {INFO} or the file"
            )
        rows = _matrix(table[feature.key], f"{where}: {feature.key}")
        if rows.shape[1] != feature.width:
            raise DatasetError(
                f"{where}: expected {feature.width} numbers of {feature.key} in each frame, as {INFO} says, got "
                f"{rows.shape[1]}; correct the shape of the feature, or the recording"
            )
        parts.append(as_rows(rows, f"{where}: {feature.key}"))
    return np.concatenate(parts, axis=1)


def measure(root: Path, meta: Meta, features: Sequence[Feature]) -> Mapping[str, Extent]:
    """The least and greatest of each number over all frames that can be read, file by file.

    An episode that cannot be read does not hide the others: reading it says what is wrong.
    """
    found = {feature.key: Extent(feature.width) for feature in features}
    by_file: dict[str, list[Entry]] = defaultdict(list)
    for entry in meta.entries:
        by_file[entry.data].append(entry)
    for name, entries in by_file.items():
        table = attempt(partial(_read_columns, root / name, [*found, "episode_index"]))
        if isinstance(table, Unreadable):
            continue
        for feature in features:
            for part in _parts(table, feature.key, entries):
                if part.shape[1] == feature.width and part.dtype.kind in "fiub":
                    found[feature.key].add(part)
    return found


def _read_columns(path: Path, columns: Sequence[str]) -> Any:
    with open_parquet(path) as file:
        return file.read(columns=[name for name in columns if name in file.schema_arrow.names])


def _parts(table: Any, key: str, entries: Sequence[Entry]) -> Iterator[np.ndarray]:
    """All rows of a feature at once, or those of each episode if some are not what they should be."""
    import pyarrow.compute as pc

    if key not in table.column_names:
        return
    rows = attempt(partial(_matrix, table[key], key))
    if not isinstance(rows, Unreadable):
        yield rows
    elif "episode_index" in table.column_names:
        for entry in entries:
            mine = table.filter(pc.equal(table["episode_index"], entry.index))
            rows = attempt(partial(_matrix, mine[key], key))
            if not isinstance(rows, Unreadable):
                yield rows


def _matrix(values: Any, where: str) -> np.ndarray:
    """A column of numbers, lists, or lists of lists as (t, w): rows of one length, none of them missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = values.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    steps, each = len(array), 1
    while True:
        if array.null_count:
            step = array.is_null().to_pylist().index(True) // each
            raise DatasetError(f"{where}: a value is missing at step {step}; leave the episode out, or repair it")
        kind = array.type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            break
        lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        width = int(lengths[0]) if len(lengths) else 0
        if (lengths != width).any():
            place = int(np.argmax(lengths != width))
            raise DatasetError(
                f"{where}: rows of different lengths, {width} numbers and at step {place // each} {lengths[place]}; "
                "leave the episode out, or repair it"
            )
        each *= width
        array = pc.list_flatten(array)
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_boolean(array.type)):
        raise DatasetError(f"{where}: expected numbers, got {array.type}; convert them, or leave the feature out")
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(steps, each)


def pictures(table: Any, key: str, root: Path, entry: Entry, camera: Camera) -> np.ndarray:
    """Pictures that are embedded as ``{bytes, path}``, or lie in the folder ``images``: (t, y, x, c) of the camera."""
    rows = table[key].to_pylist() if key in table.column_names else [None] * entry.length
    frames = np.empty((entry.length, *camera.shape), camera.dtype)
    for step, row in enumerate(rows):
        data, where = _picture(row, key, root, entry, step), f"{root}: episode {entry.index}, step {step}"
        try:
            shape = picture_shape(data)
            pixels = decode_picture(data) if shape == camera.shape else None
        except PictureError as error:
            raise DatasetError(f"{where}: the picture {key}: {error}") from None
        if pixels is None:
            kind = "16-bit " if shape[-1] == 1 else ""
            raise DatasetError(
                f"{where}: expected a picture {camera.shape} of {key}, got a {kind}picture {shape}; correct the shape "
                f"of the feature in {INFO}, or leave the episode out"
            )
        frames[step] = pixels
    return frames


def first_picture(root: Path, meta: Meta, key: str) -> bytes | None:
    """The first picture of a camera in the first episode that has one, to see what its pictures are."""
    for entry in meta.entries[:_LOOKED_AT]:
        try:
            table = read_frames(root / entry.data, entry, (key, "episode_index"))
            row = table[key][0].as_py() if key in table.column_names else None
            return _picture(row, key, root, entry, 0)
        except DatasetError:
            continue  # reading it says what is wrong
    return None


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
